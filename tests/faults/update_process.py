"""A process that lives a device's lives: each is a process of its own that boots its models, acts and may be killed.

    update_process.py SOURCE

reads one life a line from stdin, as JSON (see `Life`), forks a process for it and
writes one line when that has ended: its exit status, what it had to say, and how
long it lasted after its boot. All that takes long to import is imported once, before the first fork, and no runtime
has made a thread by then.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import select
import signal
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

# These two for the children: a device's process imports them when they are needed.
import edgeward_compression.patches
import edgeward_compression.runtimes.onnx  # noqa: F401
from edgeward.protocol.digests import Digest, parse_digest
from edgeward.protocol.golden import compare_with_golden, decode_golden
from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward.protocol.targets import PatchOffer
from edgeward_agent.artifacts import InstallError, SlotStore, resolve_candidate
from edgeward_agent.artifacts.manifest import decode_manifest
from edgeward_agent.serving import Agent
from edgeward_compression.runtimes import load_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Flavor

MODEL = "scale"

_PIECES = 8


def main() -> None:
    """One life after the other, until stdin ends."""
    source = Path(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(live(json.loads(line), source)) + "\n")
        sys.stdout.flush()


def live(life: dict[str, Any], source: Path) -> dict[str, Any]:
    """Fork, and wait for the end; kill it some time after its boot if that is asked for."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_be(life, source, writing))
    os.close(writing)
    said, lasted_s = _listen(reading, child, life.get("kill_after_s"))
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "said": said.decode().splitlines(), "lasted_s": lasted_s}


def _listen(reading: int, child: int, kill_after_s: float | None) -> tuple[bytes, float]:
    said = b""
    booted_at = kill_at = math.inf
    while True:
        wait_s = None if kill_at == math.inf else max(0.0, kill_at - time.monotonic())
        if not select.select([reading], [], [], wait_s)[0]:
            os.kill(child, signal.SIGKILL)
            kill_at, kill_after_s = math.inf, None
            continue
        piece = os.read(reading, 1 << 16)
        if not piece:
            return said, time.monotonic() - min(booted_at, time.monotonic())
        said += piece
        if booted_at == math.inf and b"booted" in said:
            booted_at = time.monotonic()
            kill_at = math.inf if kill_after_s is None else booted_at + kill_after_s


def _be(life: dict[str, Any], source: Path, writing: int) -> int:
    try:
        Life(life, source, lambda line: os.write(writing, line)).run()
    except BaseException:  # noqa: BLE001 - the outermost frame of this process
        os.write(writing, json.dumps({"error": traceback.format_exc()}).encode() + b"\n")
        return 1
    return 0


class Life:
    """From a boot to an orderly end, or to a kill at the step `kill_at`.

    `state` is the state directory. `actions` are lists: ["install", version, patched base or 0, on probation,
    release], ["stage", version, share], ["drop"], ["commit"], ["roll_back"]. The file `<base>-<version>.patch` of the
    source names the patch to a version from a base.
    """

    def __init__(self, life: dict[str, Any], source: Path, say: Callable[[bytes], object]) -> None:
        self._state = Path(life["state"])
        self._actions = life["actions"]
        self._kill_at = life.get("kill_at", "")
        self._source = source
        self._say = say
        self._store = SlotStore(self._state / "models", checkpoint=self._pass)

    def run(self) -> None:
        """Boot, say what serves, act, end in order, say it again."""
        self._tell("booted", repaired=self._store.recover())
        asyncio.run(self._act())
        self._store.close()
        self._tell("ended")

    def _pass(self, step: str) -> None:
        self._say(json.dumps({"step": step}).encode() + b"\n")
        if step == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def _act(self) -> None:
        for name, *rest in self._actions:
            match name:
                case "install":
                    await self._install(*rest)
                case "stage":
                    await self._stage(*rest)
                case "drop":
                    self._store.drop_candidate(MODEL)
                case "commit":
                    self._store.commit(MODEL)
                case "roll_back":
                    self._store.roll_back(MODEL, "too many errors")

    async def _install(
        self,
        version: int,
        base: int,
        on_probation: bool,  # noqa: FBT001 - a list of JSON
        release: int,
    ) -> None:
        await self._store.install(
            MODEL,
            version,
            self._flavor(version),
            fetch=self._fetch,
            check=_check,
            release=release,
            probation=ProbationRules(duration=timedelta(hours=1)) if on_probation else None,
            patches=self._patches(base, version) if base else (),
        )

    async def _stage(self, version: int, share: float) -> None:
        mode = CandidateMode.AB if share else CandidateMode.SHADOW
        flavor = self._flavor(version)
        await self._store.stage(MODEL, version, flavor, fetch=self._fetch, check=_check, mode=mode, share=share)

    def _flavor(self, version: int) -> Flavor:
        return decode_manifest((self._source / f"{version}.json").read_bytes()).flavor

    def _patches(self, base: int, version: int) -> list[PatchOffer]:
        digest = parse_digest((self._source / f"{base}-{version}.patch").read_text())
        size = (self._source / digest).stat().st_size
        return [PatchOffer(base_digest=self._flavor(base).digest, digest=digest, total_bytes=size)]

    async def _fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        content = (self._source / digest).read_bytes()
        piece_bytes = len(content) // _PIECES + 1
        for start in range(offset, len(content), piece_bytes):
            yield content[start : start + piece_bytes]

    def _tell(self, when: str, **facts: Any) -> None:
        """Say what serves, whether it serves well, and what runs beside it."""
        active = self._store.active(MODEL)
        candidate = resolve_candidate(self._state / "models" / MODEL)
        facts |= {
            "when": when,
            "version": active.version if active else 0,
            "on_probation": active is not None and active.probation is not None,
            "candidate": candidate.active.version if candidate else 0,
            "refused": [refusal.version for refusal in self._store.refusals(MODEL)],
        }
        if active is not None:
            with Agent(self._state, record=False) as agent:
                facts |= self._judge(active.version, agent)
        self._say(json.dumps(facts).encode() + b"\n")

    def _judge(self, version: int, agent: Agent) -> dict[str, Any]:
        """By the golden set of the coordinator, not the one in the slot, which may be what was spoiled."""
        golden = decode_golden((self._source / str(self._flavor(version).golden_digest)).read_bytes())
        outputs = agent.predict(MODEL, golden.inputs)
        factor = float(outputs["y"][0, 1] / golden.inputs["x"][0, 1])
        return {"problem": compare_with_golden(golden, outputs).problem, "factor": factor}


async def _check(path: Path, flavor: Flavor, golden: GoldenSet | None) -> None:
    """The golden set on the real runtime, in this process, which is there to be killed."""
    loaded = load_model(path, format=flavor.format)
    try:
        report = compare_with_golden(golden, loaded.predict(golden.inputs)) if golden else None
    finally:
        loaded.close()
    if report is None or not report.passed:
        raise InstallError(f"{flavor.name} computes wrong numbers")


if __name__ == "__main__":
    main()
