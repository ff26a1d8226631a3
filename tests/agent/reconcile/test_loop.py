"""The loop around the rule, with the real store of slots on a real disk."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.state import ModelState, ReportedModel, RuntimeInfo
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.reconcile import DesiredStore, Reconciler
from tests.agent.reconcile.builders import Shelf, desired_state
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.model import Format
    from edgeward.protocol.telemetry import DeviceEvent

RUNTIMES: dict[Format, RuntimeInfo] = {
    "onnx": RuntimeInfo(name="onnxruntime", version="1"),
    "tflite": RuntimeInfo(name="ai-edge-litert", version="2"),
}

QUICK = BackoffLimits(initial_s=0.01, maximum_s=0.05)


class Device:
    """A reconciler over a state directory, as after a boot."""

    def __init__(self, root: Path, shelf: Shelf, *, backoff: BackoffLimits) -> None:
        self.events: list[DeviceEvent] = []
        self.activations = 0
        self.looks = 0
        self.store = SlotStore(root / "models")
        self.reconciler = Reconciler(
            self.store,
            DesiredStore(root / "desired.json"),
            fetch=shelf.fetch,
            check=shelf.check,
            runtimes=RUNTIMES,
            backoff=backoff,
            rng=Random(1),
            monotonic=self._look_at_clock,
            record=self.events.append,
            activated=self._count,
        )

    def model(self, name: str) -> ReportedModel | None:
        """As it would be reported now."""
        return next((model for model in self.reconciler.say().models if model.model == name), None)

    def serves(self, name: str) -> tuple[int, str]:
        """Version and flavor."""
        model = self.model(name)
        return (model.version, model.flavor) if model else (0, "")

    async def wait_reached(self, generation: int) -> None:
        """Wait until this generation has been acted on in full."""
        await wait_until_async(lambda: self.reconciler.say().generation == generation, what=f"{generation}")

    def _count(self) -> None:
        self.activations += 1

    def _look_at_clock(self) -> float:
        """Each decision asks for the time, so this counts them."""
        self.looks += 1
        return time.monotonic()


@pytest.fixture
def shelf() -> Shelf:
    """With nothing on it."""
    return Shelf()


@asynccontextmanager
async def booted(root: Path, shelf: Shelf, *, backoff: BackoffLimits = QUICK) -> AsyncIterator[Device]:
    device = Device(root, shelf, backoff=backoff)
    task = asyncio.create_task(device.reconciler.run())
    try:
        yield device
    finally:
        task.cancel()
        await asyncio.wait([task])
        device.store.close()
        if not task.cancelled():
            task.result()


async def test_a_desired_model_comes_to_serve(tmp_path: Path, shelf: Shelf) -> None:
    """Installed, reported with the generation, recorded, and the serving side is told."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(1)
        assert device.serves("a") == (1, "onnx-int8")
        assert device.activations == 1
        (event,) = device.events
        assert event.kind == "activated"
        assert event.detail == {"model": "a", "version": "1", "flavor": "onnx-int8"}


async def test_a_model_that_is_no_longer_desired_goes(tmp_path: Path, shelf: Shelf) -> None:
    """Its folder too."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(1)
        device.reconciler.set_desired(desired_state(2))
        await device.wait_reached(2)
        assert device.model("a") is None
        assert not (tmp_path / "models" / "a").exists()


async def test_a_refused_flavor_gives_way_to_the_next_and_is_not_tried_again(tmp_path: Path, shelf: Shelf) -> None:
    """Why it was refused is reported beside what serves."""
    shelf.refused = {"a:1:onnx-int8"}
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", "tflite-int8")))
        await device.wait_reached(1)
        assert device.serves("a") == (1, "tflite-int8")
        looks = device.looks
        device.reconciler.link_up()
        await wait_until_async(lambda: device.looks >= looks + 2)
        assert shelf.checked == ["a:1:onnx-int8", "a:1:tflite-int8"]
        model = device.model("a")
        assert model is not None
        assert "onnx-int8 computes wrong numbers" in model.error
        assert [event.kind for event in device.events] == ["refused", "activated"]


async def test_a_version_that_fails_leaves_the_old_one_and_the_others(tmp_path: Path, shelf: Shelf) -> None:
    """The generation is reached, since all that could be tried was."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(1)
        shelf.refused = {"a:2:onnx-int8"}
        device.reconciler.set_desired(
            desired_state(2, shelf.desired_model("a", 2, "onnx-int8"), shelf.desired_model("b", 1, "onnx-int8"))
        )
        await device.wait_reached(2)
        assert device.serves("a") == (1, "onnx-int8")
        assert device.serves("b") == (1, "onnx-int8")
        model = device.model("a")
        assert model is not None
        assert model.state is ModelState.FAILED


async def test_a_new_generation_tries_what_was_refused_again(tmp_path: Path, shelf: Shelf) -> None:
    """An operator who mended the coordinator's side needs only to deploy again."""
    shelf.refused = {"a:1:onnx-int8"}
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(1)
        shelf.refused = set()
        device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(2)
        assert device.serves("a") == (1, "onnx-int8")


async def test_without_network_it_tries_again_until_it_is_back(tmp_path: Path, shelf: Shelf) -> None:
    """Meanwhile the reason is reported and the generation is not reached."""
    shelf.is_offline = True
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await wait_until_async(lambda: len(shelf.fetched) >= 3)
        await wait_until_async(lambda: "no network" in device.reconciler.say().models[0].error)
        reported = device.reconciler.say()
        assert reported.generation == 0
        assert reported.models[0].state is ModelState.FETCHING
        shelf.is_offline = False
        device.reconciler.link_up()
        await device.wait_reached(1)
        assert device.serves("a") == (1, "onnx-int8")


async def test_the_link_that_comes_back_ends_a_long_rest(tmp_path: Path, shelf: Shelf) -> None:
    """Nobody waits for the rest of an hour that began without a network."""
    shelf.is_offline = True
    async with booted(tmp_path, shelf, backoff=BackoffLimits(initial_s=3600, maximum_s=3600)) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await wait_until_async(lambda: device.reconciler.say().models[0].error)
        shelf.is_offline = False
        device.reconciler.link_up()
        await device.wait_reached(1)


async def test_what_should_run_is_on_disk_before_it_is_acted_on(tmp_path: Path, shelf: Shelf) -> None:
    """A power cut during the first download leaves a device that knows what it was doing."""
    shelf.is_offline = True
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await wait_until_async(lambda: shelf.fetched)
    async with booted(tmp_path, shelf) as device:
        model = device.model("a")
        assert model is not None
        assert (model.version, model.wanted_version) == (0, 1)


async def test_a_version_that_is_overtaken_stops_and_the_new_one_serves(tmp_path: Path, shelf: Shelf) -> None:
    """The rest of the old download is not waited for."""
    async with booted(tmp_path, shelf) as device:
        shelf.hold = asyncio.Event()
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await wait_until_async(lambda: shelf.fetched)
        device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8")))
        shelf.hold.set()
        await device.wait_reached(2)
        assert device.serves("a") == (2, "onnx-int8")
        assert shelf.checked == ["a:2:onnx-int8"]
        assert [event.kind for event in device.events] == ["activated"]


async def test_a_boot_without_network_knows_what_it_should_run(tmp_path: Path, shelf: Shelf) -> None:
    """Desired state, generation and what serves come from the disk."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(3, shelf.desired_model("a", 1, "onnx-int8")))
        await wait_until_async(lambda: DesiredStore(tmp_path / "desired.json").load().reached == 3)
    shelf.is_offline = True
    async with booted(tmp_path, shelf) as device:
        reported = device.reconciler.say()
        assert reported.generation == 3
        assert reported.models[0].state is ModelState.SERVING
        assert reported.models[0].wanted_version == 1


async def test_a_report_comes_with_each_change_and_only_then(tmp_path: Path, shelf: Shelf) -> None:
    """A session that waits for changes sees fetching, checking and serving in turn."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.say()
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        states: list[ModelState] = []
        while not states or states[-1] is not ModelState.SERVING:
            async with asyncio.timeout(20):
                reported = await device.reconciler.next_report()
            states += [model.state for model in reported.models]
        assert states[0] is ModelState.FETCHING
        assert ModelState.CHECKING in states


async def test_an_unexpected_error_in_one_model_does_not_stop_the_others(
    tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its trace and tried again."""
    broken = shelf.desired_model("a", 1, "onnx-int8")
    shelf.artifacts.pop(broken.flavors[0].digest)
    async with booted(tmp_path, shelf) as device:
        with caplog.at_level(logging.ERROR):
            device.reconciler.set_desired(desired_state(1, broken, shelf.desired_model("b", 1, "onnx-int8")))
            await wait_until_async(lambda: device.serves("b") == (1, "onnx-int8"))
        assert any("installing a 1 failed" in record.message and record.exc_info for record in caplog.records)
