"""A device whose lives `update_process.py` lives, and the versions that it installs: version n computes y = n * x."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.protocol.digests import digest_of
from edgeward_agent.artifacts.manifest import Manifest, decode_manifest, encode_manifest
from edgeward_compression.patches import make_patch
from tests.agent.artifacts.patches import make_padded_flavor
from tests.agent.models_on_disk import ArtifactSource
from tests.faults import update_process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.protocol.digests import Digest

# What a life does, in the words of `update_process.Life`.
Action = tuple[str | int | float | bool, ...]


def install(version: int, *, base: int = 0, on_probation: bool = False, release: int = 0) -> Action:
    """Install a version, by patch from `base` if one is named."""
    return ("install", version, base, on_probation, release)


def stage(version: int, *, share: float = 0.0) -> Action:
    """Make a version the candidate."""
    return ("stage", version, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a process says of itself, after its boot and before its end."""

    version: int
    on_probation: bool
    candidate: int
    refused: tuple[int, ...]
    repaired: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A life: what was said after the boot, and at the end if it came to one (None: killed before).

    `steps` are those that it passed, `lasted_s` is how long it lasted after its boot.
    """

    booted: Said | None
    ended: Said | None
    steps: tuple[str, ...]
    lasted_s: float


class Catalogue:
    """The folder that stands for the coordinator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def publish(self, version: int) -> None:
        """Make a version."""
        made = ArtifactSource()
        flavor = make_padded_flavor(made, self.folder, factor=float(version))
        self._offer(made.content(flavor.digest))
        if flavor.golden_digest is not None:
            self._offer(made.content(flavor.golden_digest))
        manifest = Manifest(model=update_process.MODEL, version=version, flavor=flavor, serial=0)
        (self.folder / f"{version}.json").write_bytes(encode_manifest(manifest))

    def publish_patch(self, base: int, version: int) -> None:
        """Make a patch between two versions."""
        out = self.folder / "out"
        make_patch(self._model(base), self._model(version), out)
        self.offer_patch(base, version, out.read_bytes())

    def offer_patch(self, base: int, version: int, content: bytes) -> None:
        """Offer these bytes as one."""
        (self.folder / f"{base}-{version}.patch").write_text(self._offer(content))

    def _model(self, version: int) -> Path:
        return self.folder / decode_manifest((self.folder / f"{version}.json").read_bytes()).flavor.digest

    def _offer(self, content: bytes) -> Digest:
        digest = digest_of(content)
        (self.folder / digest).write_bytes(content)
        return digest


class Device:
    """A state directory, and the process that forks its lives; close it."""

    def __init__(self, state: Path, process: subprocess.Popen[str]) -> None:
        self.state = state
        self._process = process

    @property
    def folder(self) -> Path:
        """The model's."""
        return self.state / "models" / update_process.MODEL

    def live(self, *actions: Action, kill_at: str = "", kill_after_s: float | None = None) -> Lived:
        """One life; whatever it serves, it serves well.

        Args:
            actions: What it does after its boot.
            kill_at: The step at which it is killed.
            kill_after_s: The time after its boot at which it is killed, unless it has ended by then.
        """
        life = {"state": str(self.state), "actions": actions, "kill_at": kill_at, "kill_after_s": kill_after_s}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(life) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = [json.loads(line) for line in answer["said"]]
        was_killed = answer["status"] == -signal.SIGKILL
        assert answer["status"] == 0 or was_killed, said
        assert was_killed or not kill_at, f"it never came to {kill_at}: {said}"
        told = {facts["when"]: _read(facts) for facts in said if "when" in facts}
        return Lived(
            booted=told.get("booted"),
            ended=told.get("ended"),
            steps=tuple(facts["step"] for facts in said if "step" in facts),
            lasted_s=answer["lasted_s"],
        )

    def cut_newest_file(self) -> None:
        """Spoil the file that was written last, as a power cut most likely does; nothing where there is none."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        if files:
            os.truncate(max(files, key=lambda path: path.stat().st_mtime_ns), 7)


def start_process(catalogue: Catalogue) -> subprocess.Popen[str]:
    """The process that forks lives; it ends when its stdin is closed."""
    command: Sequence[str] = [sys.executable, update_process.__file__, str(catalogue.folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(facts: dict[str, Any]) -> Said:
    if facts["version"]:
        assert facts["problem"] == ""
        assert facts["factor"] == facts["version"]
    return Said(
        version=facts["version"],
        on_probation=facts["on_probation"],
        candidate=facts["candidate"],
        refused=tuple(facts["refused"]),
        repaired=tuple(facts.get("repaired", ())),
    )
