"""A real file system without room, and a real limit on a process: refused in words, and what serves goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeward.protocol.state import ProbationRules
from edgeward.protocol.telemetry import PredictionWindow, decode_batch
from edgeward_agent.artifacts import DiskFull, SlotStore
from edgeward_agent.errors import Interrupted
from edgeward_agent.serving import Agent
from edgeward_agent.telemetry import Outbox
from tests.agent.artifacts.patches import offer_patch
from tests.agent.models_on_disk import ArtifactSource, X, accept, install_scale, scaled, without_golden
from tests.agent.trust.device import NOON, Device, target_of
from tests.agent.trust.repository import SimulatedRepository
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Flavor

_DISK_BYTES = 4 << 20
_MODEL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A file system of its own."""

    root: Path

    @property
    def state(self) -> Path:
        """The state directory on it."""
        return self.root / "state"

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.root / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 8, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size):
                        pass

    def make_room(self) -> None:
        """Somebody has tidied up."""
        (self.root / "filler").unlink()


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """A tmpfs of a few MiB; needs the right to mount. Not under tmp_path, which pytest could not sweep after a kill."""
    root = Path(tempfile.mkdtemp(prefix="edgeward-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(root)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        root.rmdir()
        pytest.skip("this user may not mount a file system")
    yield SmallDisk(root=root)
    subprocess.run(["umount", "--lazy", str(root)], check=True)
    root.rmdir()


def make_large_flavor(source: ArtifactSource, folder: Path, *, factor: float) -> Flavor:
    """The tiny model, with weights of a MiB that it does not use."""
    flavor = without_golden(source.make_flavor(folder, factor=factor))
    model = onnx.load(str(write_onnx_scale(folder / "large.onnx", factor=factor)))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(_MODEL_BYTES, np.uint8), "padding"))
    content = model.SerializeToString()
    return replace(flavor, digest=source.add(content), total_bytes=len(content))


async def test_update_without_room_is_refused_beforehand(disk: SmallDisk, tmp_path: Path) -> None:
    """Nothing is downloaded, the sentence says how much is needed, and the model predicts on."""
    source = ArtifactSource(piece_bytes=1 << 16)
    store = SlotStore(disk.state / "models")
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    flavor = make_large_flavor(source, tmp_path, factor=2.0)
    disk.fill()
    source.asked.clear()
    with Agent(disk.state) as agent:
        with pytest.raises(DiskFull, match=r"scale version 2 .* needs \d+ bytes of disk and \d+ are free; make room"):
            await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(1.0))
    assert source.asked == []
    store.close()


async def test_disk_that_fills_during_the_download(disk: SmallDisk, tmp_path: Path) -> None:
    """What had arrived gives its room back, version 1 serves on, and with room again the update succeeds."""
    source = ArtifactSource(piece_bytes=1 << 16)
    store = SlotStore(disk.state / "models")
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    flavor = make_large_flavor(source, tmp_path, factor=2.0)

    async def fetch_while_others_write(digest: Digest, offset: int) -> AsyncIterator[bytes]:
        async for piece in source.fetch(digest, offset):
            yield piece
            if offset + len(piece) >= 1 << 16:
                disk.fill()

    with Agent(disk.state) as agent:
        with pytest.raises(DiskFull, match=r"the disk is full: scale version 2 .* was not installed"):
            await store.install("scale", 2, flavor, fetch=fetch_while_others_write, check=accept)
        assert list((disk.state / "models" / "scale" / "slots" / "b").iterdir()) == []
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(1.0))
        disk.make_room()
        await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)
        agent.refresh()
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(2.0))
    store.close()


async def test_disk_that_fills_while_a_patch_is_applied(disk: SmallDisk, tmp_path: Path) -> None:
    """The patch and the model that it would have made give their room back, and version 1 serves on."""
    source = ArtifactSource(piece_bytes=1 << 16)
    store = SlotStore(disk.state / "models")
    base, target = (make_large_flavor(source, tmp_path, factor=factor) for factor in (1.0, 2.0))
    await store.install("scale", 1, base, fetch=source.fetch, check=accept)
    patch = offer_patch(source, tmp_path, base, target)

    async def fetch_and_fill(digest: Digest, offset: int) -> AsyncIterator[bytes]:
        async for piece in source.fetch(digest, offset):
            yield piece
        disk.fill()

    with pytest.raises(DiskFull, match=r"the disk is full: scale version 2 .* was not installed"):
        await store.install("scale", 2, target, fetch=fetch_and_fill, check=accept, patches=[patch])
    assert source.asked[-1][0] == patch.digest
    assert list((disk.state / "models" / "scale" / "slots" / "b").iterdir()) == []
    with Agent(disk.state) as agent:
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(1.0))
        disk.make_room()
        await store.install("scale", 2, target, fetch=source.fetch, check=accept, patches=[patch])
        agent.refresh()
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(2.0))
    assert target.digest not in {digest for digest, _ in source.asked}
    store.close()


async def test_roll_back_on_a_full_disk(disk: SmallDisk, tmp_path: Path) -> None:
    """Not one byte is free: what fails gives its room, version 1 serves again, and why is remembered."""
    source = ArtifactSource()
    store = SlotStore(disk.state / "models")
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    flavor = source.make_flavor(tmp_path, factor=2.0)
    await store.install("scale", 2, flavor, fetch=source.fetch, check=accept, probation=ProbationRules())
    disk.fill()
    active = store.roll_back("scale", "too many errors")
    assert active is not None
    assert active.version == 1
    assert [refusal.reason for refusal in store.refusals("scale")] == ["too many errors"]
    with Agent(disk.state) as agent:
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(1.0))
    store.close()


async def test_counts_wait_for_room(disk: SmallDisk, tmp_path: Path) -> None:
    """Predictions on a full disk are answered, and their counts are written once there is room."""
    source = ArtifactSource()
    store = SlotStore(disk.state / "models")
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    store.close()
    agent = Agent(disk.state, look_every_s=3600)
    agent.predict("scale", X)
    agent._recorder.flush()
    disk.fill()
    for _ in range(2000):
        agent.predict("scale", X)
        agent._recorder.flush()
        assert agent._outbox is not None
        if agent._outbox.problem:
            break
    else:
        pytest.fail("the outbox never noticed the full disk")
    calls = 7
    for _ in range(calls):
        agent.predict("scale", X)
        agent._recorder.flush()
    waiting = agent._outbox.size().records
    disk.make_room()
    agent.close()
    outbox = Outbox(disk.state / "outbox.db")
    assert outbox.size().records == waiting
    while outbox.seal():
        pass
    records = [record for batch in outbox.unacknowledged(1 << 30) for record in decode_batch(batch.payload)]
    outbox.close()
    assert all(isinstance(record.body, PredictionWindow) for record in records)
    assert len(records) == waiting


async def test_boot_on_a_full_disk(disk: SmallDisk, tmp_path: Path) -> None:
    """A damaged active slot and not one byte of room: the boot still ends with a model that works."""
    source = ArtifactSource()
    store = SlotStore(disk.state / "models")
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    await install_scale(store, source, tmp_path, version=2, factor=2.0)
    store.close()
    os.truncate(disk.state / "models" / "scale" / "slots" / "b" / "model.onnx", 20)
    disk.fill()
    store = SlotStore(disk.state / "models")
    words = store.recover()
    assert any("slot b of scale is damaged" in word or "could not be repaired" in word for word in words)
    with Agent(disk.state) as agent:
        np.testing.assert_array_equal(agent.predict("scale", X)["y"], scaled(1.0))
    store.close()


def test_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """A process that may write no file of a MiB (RLIMIT_FSIZE, EFBIG) refuses the update in words and predicts on."""
    script = """
import asyncio, resource, sys
from pathlib import Path
import numpy as np
from edgeward_agent.artifacts import DiskFull, SlotStore
from edgeward_agent.serving import Agent
from tests.agent.models_on_disk import X, ArtifactSource, accept, install_scale
from tests.faults.test_full_disk import make_large_flavor

async def main(folder):
    source = ArtifactSource(piece_bytes=1 << 16)
    store = SlotStore(folder / "state" / "models")
    await install_scale(store, source, folder, version=1, factor=1.0)
    flavor = make_large_flavor(source, folder, factor=2.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
    try:
        await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)
    except DiskFull as error:
        print(error)
    with Agent(folder / "state") as agent:
        print((agent.predict("scale", X)["y"] == X).all())

asyncio.run(main(Path(sys.argv[1])))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refusal, predicts = done.stdout.splitlines()
    assert refusal.startswith("the disk is full: scale version 2 (onnx-fp32) was not installed (File too large)")
    assert predicts == "True"


async def test_full_disk_authorizes_nothing(disk: SmallDisk) -> None:
    """What signed metadata told must be durable first; with room again it goes on, and nothing was forgotten."""
    repository = SimulatedRepository(now=NOON)
    repository.sign_target(target_of())
    repository.publish()
    device = Device(disk.state / "trust", repository)
    await device.authorize()
    repository.publish()
    disk.fill()
    with pytest.raises(Interrupted, match=r"trust can't be written \(No space left on device\).*make room"):
        await device.authorize()
    assert device.store.floors().roles["timestamp"].version == 2
    disk.make_room()
    await device.authorize()
    assert device.store.floors().roles["timestamp"].version == 3
