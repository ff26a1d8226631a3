"""Runs `update_process.py`, and makes the versions that it installs: version n computes y = n * x."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.digests import digest_of
from edgeward.protocol.golden import GoldenSet, encode_golden
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward_agent.artifacts.manifest import Manifest, encode_manifest
from tests.faults import update_process
from tests.tiny_models import WIDTH, write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.digests import Digest

_X = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a process says that it serves."""

    version: int
    repaired: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The state directory of a device, and the folder that stands for its coordinator."""

    state: Path
    source: Path

    def publish(self, version: int) -> None:
        """Make a version that computes y = version * x."""
        model = write_onnx_scale(self.source / "model.onnx", factor=float(version)).read_bytes()
        golden = encode_golden(GoldenSet(inputs={"x": _X}, outputs={"y": _X * np.float32(version)}, tolerance=1e-3))
        flavor = Flavor(
            name="onnx-fp32",
            format="onnx",
            precision="fp32",
            digest=self._offer(model),
            total_bytes=len(model),
            golden_digest=self._offer(golden),
            golden_bytes=len(golden),
            signature=Signature(
                inputs=(TensorSpec(name="x", dtype="float32", shape=(None, WIDTH)),),
                outputs=(TensorSpec(name="y", dtype="float32", shape=(None, WIDTH)),),
            ),
        )
        manifest = Manifest(model=update_process.MODEL, version=version, flavor=flavor, serial=0)
        (self.source / f"{version}.json").write_bytes(encode_manifest(manifest))

    def start(self, version: int, *, kill_at: str = "") -> subprocess.Popen[bytes]:
        """A process that boots and updates."""
        command = [sys.executable, update_process.__file__, str(self.state), str(self.source), str(version), kill_at]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def update(self, version: int) -> list[Serving]:
        """Boot and update to the end; what serves before and after."""
        process = self.start(version)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr.decode()
        return [read_line(line) for line in stdout.splitlines()]

    def update_killed(self, version: int, step: str) -> None:
        """Boot and update, killed at a step."""
        process = self.start(version, kill_at=step)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, stderr.decode()

    def newest_file(self) -> Path:
        """The file that was written last: the one that a power cut most likely spoils."""
        files = [path for path in (self.state / "models" / update_process.MODEL).rglob("*") if path.is_file()]
        return max(files, key=lambda path: path.stat().st_mtime_ns)

    def _offer(self, content: bytes) -> Digest:
        digest = digest_of(content)
        (self.source / digest).write_bytes(content)
        return digest


def read_line(line: bytes) -> Serving:
    """What a process said; whatever it serves, it serves well."""
    facts = json.loads(line)
    if facts["version"]:
        assert facts["problem"] == ""
        assert facts["factor"] == facts["version"]
    return Serving(version=facts["version"], repaired=tuple(facts["repaired"]))
