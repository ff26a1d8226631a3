"""The loop around the rule, with the real store of slots on a real disk."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.state import CandidateMode, ModelState, ProbationRules, ReportedModel, RuntimeInfo
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.config import UpdateSettings, parse_config
from edgeward_agent.reconcile import DesiredStore, Downloads, Installer, Reconciler, Turns
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
MEMORY_BYTES = 1 << 30


class Device:
    """A reconciler over a state directory, as after a boot.

    Attributes:
        is_metered: Whether its link is.
        now: Of the clock on its wall.
    """

    def __init__(
        self,
        root: Path,
        shelf: Shelf,
        *,
        backoff: BackoffLimits = QUICK,
        updates: UpdateSettings | None = None,
        turn_s: float = 30.0,
    ) -> None:
        self.events: list[DeviceEvent] = []
        self.activations = 0
        self.looks = 0
        self.is_metered = False
        self.now = datetime(2026, 3, 4, 12, 0)  # noqa: DTZ001 - a clock on a wall
        self.store = SlotStore(root / "models")
        downloads = Downloads(
            shelf.fetch,
            updates or UpdateSettings(),
            is_metered=lambda: self.is_metered,
            local_now=lambda: self.now,
            monotonic=time.monotonic,
        )
        self.reconciler = Reconciler(
            self.store,
            DesiredStore(root / "desired.json"),
            installer=Installer(
                self.store,
                authorize=shelf.authorize,
                downloads=downloads,
                check=shelf.check,
                runtimes=RUNTIMES,
                memory_bytes=MEMORY_BYTES,
                turns=Turns(turn_s=turn_s),
            ),
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

    def state(self, name: str) -> tuple[ModelState | None, str]:
        """State and error."""
        model = self.model(name)
        return (model.state, model.error) if model else (None, "")

    def candidate(self, name: str) -> tuple[ModelState | None, str]:
        """State and error of the candidate."""
        model = self.model(name)
        return (model.candidate.state, model.candidate.error) if model and model.candidate else (None, "")

    def kinds(self) -> list[str]:
        """What happened, in order."""
        return [event.kind for event in self.events]

    async def wait_reached(self, generation: int) -> None:
        """Wait until this generation has been acted on in full."""
        await wait_until_async(lambda: self.reconciler.say().generation == generation, what=f"{generation}")

    async def _count(self) -> None:
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
async def booted(
    root: Path,
    shelf: Shelf,
    *,
    backoff: BackoffLimits = QUICK,
    updates: str = "",
    turn_s: float = 30.0,
) -> AsyncIterator[Device]:
    settings = parse_config(f"[updates]\n{updates}").updates
    device = Device(root, shelf, backoff=backoff, updates=settings, turn_s=turn_s)
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
    """Authorized, installed, reported with the generation, recorded, and the serving side is told."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", release=1)))
        await device.wait_reached(1)
        assert device.serves("a") == (1, "onnx-int8")
        assert shelf.authorized == ["a:1:onnx-int8"]
        assert device.activations == 1
        (event,) = device.events
        assert event.kind == "activated"
        assert event.detail == {"model": "a", "version": "1", "flavor": "onnx-int8", "release": "1"}


async def test_a_state_that_is_reached_costs_nothing(tmp_path: Path, shelf: Shelf) -> None:
    """Said again, it is not acted on again; and a loop with nothing to do does not turn."""
    async with booted(tmp_path, shelf) as device:
        desired = desired_state(1, shelf.desired_model("a", 1, "onnx-int8"))
        device.reconciler.set_desired(desired)
        await device.wait_reached(1)
        looks = device.looks
        device.reconciler.set_desired(desired)
        await asyncio.sleep(0.2)
        assert device.looks == looks
        assert shelf.fetched == ["a:1:onnx-int8"]


async def test_a_model_that_is_not_desired_goes(tmp_path: Path, shelf: Shelf) -> None:
    """With its space, and the coordinator hears so."""
    async with booted(tmp_path, shelf) as device:
        device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
        await device.wait_reached(1)
        device.reconciler.set_desired(desired_state(2))
        await device.wait_reached(2)
        assert device.reconciler.say().models == ()
        assert not (tmp_path / "models" / "a").exists()
        assert device.kinds() == ["activated", "removed"]


class TestRefusals:
    """What can't serve here."""

    async def test_the_next_flavor_has_its_turn(self, tmp_path: Path, shelf: Shelf) -> None:
        """And the report says why it is not the best one."""
        shelf.refused = {"a:1:onnx-int8"}
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", "tflite-int8")))
            await device.wait_reached(1)
            assert device.serves("a") == (1, "tflite-int8")
            assert device.state("a") == (ModelState.SERVING, "onnx-int8: onnx-int8 computes wrong numbers")
            assert device.kinds() == ["refused", "activated"]

    async def test_are_remembered_over_a_restart(self, tmp_path: Path, shelf: Shelf) -> None:
        """Under the same release nothing of it is fetched again, whatever the generation."""
        shelf.refused = {"a:1:onnx-int8"}
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", release=1)))
            await device.wait_reached(1)
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(
                desired_state(
                    2, shelf.desired_model("a", 1, "onnx-int8", release=1), shelf.desired_model("b", 1, "onnx-int8")
                )
            )
            await device.wait_reached(2)
            assert device.state("a") == (ModelState.FAILED, "onnx-int8: onnx-int8 computes wrong numbers")
        assert shelf.fetched == ["a:1:onnx-int8", "b:1:onnx-int8"]

    async def test_a_newer_release_tries_again(self, tmp_path: Path, shelf: Shelf) -> None:
        """An operator who mended the coordinator's side needs only to deploy again."""
        shelf.refused = {"a:1:onnx-int8"}
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", release=1)))
            await device.wait_reached(1)
            shelf.refused = set()
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 1, "onnx-int8", release=2)))
            await device.wait_reached(2)
            assert device.serves("a") == (1, "onnx-int8")

    @pytest.mark.parametrize(
        ("needs", "memory_bytes", "reason"),
        [
            ({"onnxruntime": "1.20"}, 0, "it needs onnxruntime 1.20 or newer, and this device has onnxruntime 1"),
            ({}, 2 * MEMORY_BYTES, "it needs 2147483648 bytes of memory, and this device has 1073741824 for it"),
        ],
        ids=["runtime", "memory"],
    )
    async def test_what_is_signed_for_other_devices(
        self, tmp_path: Path, shelf: Shelf, needs: dict[str, str], memory_bytes: int, reason: str
    ) -> None:
        """Nothing of it is downloaded."""
        shelf.needs, shelf.memory_bytes = needs, memory_bytes
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await device.wait_reached(1)
            assert device.state("a") == (ModelState.FAILED, f"onnx-int8: {reason}")
        assert shelf.fetched == []


class TestInterruptions:
    """What is tried again."""

    async def test_without_network_it_tries_until_it_is_back(self, tmp_path: Path, shelf: Shelf) -> None:
        """Meanwhile the reason is reported and the generation is not reached."""
        shelf.is_offline = True
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: len(shelf.fetched) >= 3)
            await wait_until_async(lambda: device.state("a") == (ModelState.FETCHING, "no network"))
            assert device.reconciler.say().generation == 0
            shelf.is_offline = False
            device.reconciler.link_up()
            await device.wait_reached(1)
            assert device.serves("a") == (1, "onnx-int8")

    async def test_what_nobody_signed_is_not_downloaded(self, tmp_path: Path, shelf: Shelf) -> None:
        """It is asked for again, since a signature may come; then it serves."""
        shelf.unsigned = {"a:1:onnx-int8"}
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: len(shelf.authorized) >= 3)
            assert "is in no signed metadata" in device.state("a")[1]
            assert shelf.fetched == []
            shelf.unsigned = set()
            await device.wait_reached(1)

    async def test_the_link_that_comes_back_ends_a_long_rest(self, tmp_path: Path, shelf: Shelf) -> None:
        """Nobody waits for the rest of an hour that began without a network."""
        shelf.is_offline = True
        async with booted(tmp_path, shelf, backoff=BackoffLimits(initial_s=3600, maximum_s=3600)) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: device.state("a")[1])
            shelf.is_offline = False
            device.reconciler.link_up()
            await device.wait_reached(1)

    async def test_a_new_decision_ends_a_long_rest(self, tmp_path: Path, shelf: Shelf) -> None:
        """What is wanted now has not failed yet."""
        shelf.unsigned = {"a:1:onnx-int8"}
        async with booted(tmp_path, shelf, backoff=BackoffLimits(initial_s=3600, maximum_s=3600)) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: device.state("a")[1])
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8")))
            await device.wait_reached(2)

    async def test_an_unexpected_error_in_one_model_does_not_stop_the_others(
        self, tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged with its trace and tried again."""
        broken = shelf.desired_model("a", 1, "onnx-int8")
        shelf.artifacts.pop(broken.flavors[0].digest)
        async with booted(tmp_path, shelf) as device:
            with caplog.at_level(logging.ERROR):
                device.reconciler.set_desired(desired_state(1, broken, shelf.desired_model("b", 1, "onnx-int8")))
                await wait_until_async(lambda: device.serves("b") == (1, "onnx-int8"))
                await wait_until_async(lambda: shelf.fetched.count("a:1:onnx-int8") >= 2)
            assert any("installing a 1 as" in record.message and record.exc_info for record in caplog.records)


class TestTurns:
    """A model that is stuck, and the others."""

    async def test_a_stuck_download_does_not_delay_a_roll_back(self, tmp_path: Path, shelf: Shelf) -> None:
        """The former version needs no download: it serves while the other model still waits for its bytes."""
        async with booted(tmp_path, shelf) as device:
            for generation in (1, 2):
                device.reconciler.set_desired(
                    desired_state(generation, shelf.desired_model("b", generation, "onnx-int8"))
                )
                await device.wait_reached(generation)
            shelf.holds["a"] = asyncio.Event()
            stuck = shelf.desired_model("a", 1, "onnx-int8")
            device.reconciler.set_desired(desired_state(3, stuck, shelf.desired_model("b", 2, "onnx-int8")))
            await wait_until_async(lambda: "a:1:onnx-int8" in shelf.fetched)
            fetched = list(shelf.fetched)
            device.reconciler.set_desired(desired_state(4, stuck, shelf.desired_model("b", 1, "onnx-int8")))
            await wait_until_async(lambda: device.serves("b") == (1, "onnx-int8"))
            assert [name for name in shelf.fetched[len(fetched) :] if name.startswith("b")] == []
            assert device.state("a") == (ModelState.FETCHING, "")
            shelf.holds["a"].set()
            await device.wait_reached(4)

    async def test_a_stuck_download_gives_way_to_another(self, tmp_path: Path, shelf: Shelf) -> None:
        """After its turn; and it comes back, and is no failure."""
        shelf.holds["a"] = asyncio.Event()
        async with booted(tmp_path, shelf, turn_s=0.05) as device:
            models = [shelf.desired_model(name, 1, "onnx-int8") for name in ("a", "b", "c")]
            device.reconciler.set_desired(desired_state(1, *models))
            await wait_until_async(lambda: (device.serves("b"), device.serves("c")) == ((1, "onnx-int8"),) * 2)
            assert device.state("a") == (ModelState.FETCHING, "")
            shelf.holds["a"].set()
            await device.wait_reached(1)

    async def test_a_version_that_is_overtaken_stops_and_the_new_one_serves(self, tmp_path: Path, shelf: Shelf) -> None:
        """The rest of the old download is not waited for, however stuck it is."""
        shelf.holds["a"] = asyncio.Event()
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: shelf.fetched)
            newer = desired_state(2, shelf.desired_model("a", 2, "onnx-int8"))
            device.reconciler.set_desired(newer)
            await wait_until_async(lambda: "a:2:onnx-int8" in shelf.fetched)
            shelf.holds["a"].set()
            await device.wait_reached(2)
            assert device.serves("a") == (2, "onnx-int8")
            assert shelf.checked == ["a:2:onnx-int8"]
            assert device.kinds() == ["activated"]


class TestOwner:
    """What the device's owner allows."""

    async def test_quiet_hours_are_waited_for(
        self, tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The state says until when; nothing is asked for, not even metadata."""
        monkeypatch.setattr("edgeward_agent.reconcile.loop._ASK_OWNER_AGAIN_S", 0.02)
        async with booted(tmp_path, shelf, updates='quiet_hours = ["08:00-18:00"]') as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: device.state("a") == (ModelState.WAITING, "quiet hours until 18:00"))
            assert shelf.authorized == shelf.fetched == []
            device.now = device.now.replace(hour=18)
            await device.wait_reached(1)

    async def test_a_download_stops_when_the_link_becomes_metered(
        self, tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In its middle; what has arrived is kept, and the metadata is not asked for again meanwhile."""
        monkeypatch.setattr("edgeward_agent.reconcile.loop._ASK_OWNER_AGAIN_S", 0.02)
        shelf.holds["a"] = asyncio.Event()
        async with booted(tmp_path, shelf, updates='metered = "small"\nmetered_max_bytes = 100') as device:
            model = shelf.desired_model("a", 1, "onnx-int8")
            device.reconciler.set_desired(desired_state(1, model))
            await wait_until_async(lambda: shelf.fetched)
            device.is_metered = True
            shelf.holds["a"].set()
            reason = "metered link: 0.0 MiB wait for an unmetered one"
            await wait_until_async(lambda: device.state("a") == (ModelState.WAITING, reason))
            looks = device.looks
            await wait_until_async(lambda: device.looks > looks + 6)
            assert shelf.fetched == ["a:1:onnx-int8"]
            assert len(shelf.authorized) <= 2
            device.is_metered = False
            await device.wait_reached(1)
            assert shelf.fetched == ["a:1:onnx-int8"] * 2

    async def test_a_roll_back_waits_for_nothing(self, tmp_path: Path, shelf: Shelf) -> None:
        """The former version is here: quiet hours are for downloads."""
        async with booted(tmp_path, shelf, updates='quiet_hours = ["08:00-18:00"]') as device:
            device.now = device.now.replace(hour=20)
            for generation in (1, 2):
                device.reconciler.set_desired(
                    desired_state(generation, shelf.desired_model("a", generation, "onnx-int8"))
                )
                await device.wait_reached(generation)
            device.now = device.now.replace(hour=12)
            device.reconciler.set_desired(desired_state(3, shelf.desired_model("a", 1, "onnx-int8")))
            await device.wait_reached(3)
            assert device.serves("a") == (1, "onnx-int8")

    async def test_what_has_to_wait_costs_nothing_that_is_here(self, tmp_path: Path, shelf: Shelf) -> None:
        """The version to go back to stays while the next one waits for its hours."""
        async with booted(tmp_path, shelf, updates='quiet_hours = ["08:00-18:00"]') as device:
            device.now = device.now.replace(hour=20)
            for generation in (1, 2):
                device.reconciler.set_desired(
                    desired_state(generation, shelf.desired_model("a", generation, "onnx-int8"))
                )
                await device.wait_reached(generation)
            held = device.store.held("a")
            device.now = device.now.replace(hour=12)
            device.reconciler.set_desired(desired_state(3, shelf.desired_model("a", 3, "onnx-int8")))
            await wait_until_async(lambda: device.state("a")[0] is ModelState.WAITING)
            assert device.store.held("a") == held
            assert len(held) == 2


class TestProbation:
    """What is asked of a version after its activation."""

    async def test_is_reported_and_the_generation_is_reached(self, tmp_path: Path, shelf: Shelf) -> None:
        """There is nothing left to do but to wait."""
        async with booted(tmp_path, shelf) as device:
            model = shelf.desired_model("a", 1, "onnx-int8", release=5, probation=ProbationRules())
            device.reconciler.set_desired(desired_state(1, model))
            await device.wait_reached(1)
            assert device.state("a") == (ModelState.PROBATION, "")
            active = device.store.active("a")
            assert active is not None
            assert active.probation is not None
            assert active.probation.release == 5

    async def test_a_local_roll_back_is_told_and_not_undone(self, tmp_path: Path, shelf: Shelf) -> None:
        """What was sent back here is not installed again under the same release."""
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8", release=1)))
            await device.wait_reached(1)
            second = shelf.desired_model("a", 2, "onnx-int8", release=2, probation=ProbationRules())
            device.reconciler.set_desired(desired_state(2, second))
            await device.wait_reached(2)
            device.store.roll_back("a", "7 of 9 calls failed")
            device.reconciler.look_again()
            await wait_until_async(lambda: device.serves("a") == (1, "onnx-int8"))
            assert device.state("a") == (ModelState.FAILED, "onnx-int8: 7 of 9 calls failed")
            assert shelf.fetched == ["a:1:onnx-int8", "a:2:onnx-int8"]


class TestFormer:
    """The coordinator goes back to the version before."""

    async def test_needs_neither_signatures_nor_bytes(self, tmp_path: Path, shelf: Shelf) -> None:
        """It was authorized when it was installed; new metadata may have expired, and the network be away."""
        async with booted(tmp_path, shelf) as device:
            first = shelf.desired_model("a", 1, "onnx-int8", release=1)
            device.reconciler.set_desired(desired_state(1, first))
            await device.wait_reached(1)
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8", release=2)))
            await device.wait_reached(2)
            shelf.unsigned = {"a:1:onnx-int8"}
            shelf.is_offline = True
            device.reconciler.set_desired(desired_state(3, replace(first, release=3, probation=ProbationRules())))
            await device.wait_reached(3)
            assert device.serves("a") == (1, "onnx-int8")
            # On probation it could be sent back to what it replaces.
            assert device.state("a") == (ModelState.SERVING, "")
            assert shelf.authorized == ["a:1:onnx-int8", "a:2:onnx-int8"]

    async def test_that_is_damaged_is_authorized_anew(self, tmp_path: Path, shelf: Shelf) -> None:
        """What would have to be downloaded is what has to be signed."""
        async with booted(tmp_path, shelf) as device:
            first = shelf.desired_model("a", 1, "onnx-int8", release=1)
            device.reconciler.set_desired(desired_state(1, first))
            await device.wait_reached(1)
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8", release=2)))
            await device.wait_reached(2)
            shelf.unsigned = {"a:1:onnx-int8"}
            (tmp_path / "models" / "a" / "slots" / "a" / "model.onnx").write_bytes(b"damaged")
            device.reconciler.set_desired(desired_state(3, replace(first, release=3)))
            await wait_until_async(lambda: "in no signed metadata" in device.state("a")[1])
            assert device.serves("a") == (2, "onnx-int8")


class TestCandidates:
    """A version beside the one that serves."""

    async def test_is_staged_and_dropped(self, tmp_path: Path, shelf: Shelf) -> None:
        """As it is desired; both are told."""
        async with booted(tmp_path, shelf) as device:
            candidate = shelf.candidate("a", 2, "onnx-int8", mode=CandidateMode.AB, share=0.25)
            device.reconciler.set_desired(
                desired_state(1, shelf.desired_model("a", 1, "onnx-int8", candidate=candidate))
            )
            await device.wait_reached(1)
            assert device.serves("a") == (1, "onnx-int8")
            assert device.candidate("a") == (ModelState.SERVING, "")
            staged = device.store.candidate("a")
            assert staged is not None
            assert (staged.active.version, staged.mode, staged.share) == (2, CandidateMode.AB, 0.25)
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 1, "onnx-int8")))
            await device.wait_reached(2)
            assert device.store.candidate("a") is None
            assert device.kinds() == ["activated", "candidate", "candidate_dropped"]
            assert device.activations == 3

    async def test_is_promoted_without_a_download(self, tmp_path: Path, shelf: Shelf) -> None:
        """It is here already."""
        async with booted(tmp_path, shelf) as device:
            candidate = shelf.candidate("a", 2, "onnx-int8")
            device.reconciler.set_desired(
                desired_state(1, shelf.desired_model("a", 1, "onnx-int8", candidate=candidate))
            )
            await device.wait_reached(1)
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8")))
            await device.wait_reached(2)
            assert device.serves("a") == (2, "onnx-int8")
            assert device.store.candidate("a") is None
            assert shelf.fetched == ["a:1:onnx-int8", "a:2:onnx-int8"]

    async def test_that_computes_wrong_numbers_is_refused_alone(self, tmp_path: Path, shelf: Shelf) -> None:
        """The version beside it is not concerned."""
        shelf.refused = {"a:2:onnx-int8"}
        async with booted(tmp_path, shelf) as device:
            candidate = shelf.candidate("a", 2, "onnx-int8")
            device.reconciler.set_desired(
                desired_state(1, shelf.desired_model("a", 1, "onnx-int8", candidate=candidate))
            )
            await device.wait_reached(1)
            assert device.state("a") == (ModelState.SERVING, "")
            assert device.candidate("a") == (ModelState.FAILED, "onnx-int8: onnx-int8 computes wrong numbers")

    async def test_waits_for_the_end_of_a_probation(self, tmp_path: Path, shelf: Shelf) -> None:
        """The former version is needed until then."""
        async with booted(tmp_path, shelf) as device:
            candidate = shelf.candidate("a", 2, "onnx-int8")
            model = shelf.desired_model("a", 1, "onnx-int8", probation=ProbationRules(), candidate=candidate)
            device.reconciler.set_desired(desired_state(1, model))
            await wait_until_async(lambda: device.serves("a") == (1, "onnx-int8"))
            assert device.candidate("a")[0] is ModelState.WAITING
            device.store.commit("a")
            device.reconciler.look_again()
            await device.wait_reached(1)
            assert device.candidate("a") == (ModelState.SERVING, "")


class TestMemory:
    """Boots and reports."""

    async def test_what_should_run_is_on_disk_before_it_is_acted_on(self, tmp_path: Path, shelf: Shelf) -> None:
        """A power cut during the first download leaves a device that knows what it was doing."""
        shelf.is_offline = True
        async with booted(tmp_path, shelf) as device:
            device.reconciler.set_desired(desired_state(1, shelf.desired_model("a", 1, "onnx-int8")))
            await wait_until_async(lambda: shelf.fetched)
        async with booted(tmp_path, shelf) as device:
            model = device.model("a")
            assert model is not None
            assert (model.version, model.wanted_version) == (0, 1)

    async def test_a_boot_without_network_knows_what_it_should_run(self, tmp_path: Path, shelf: Shelf) -> None:
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

    async def test_a_report_comes_with_each_change_and_only_then(self, tmp_path: Path, shelf: Shelf) -> None:
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

    async def test_half_a_download_of_what_is_no_longer_wanted_gives_its_room_back(
        self, tmp_path: Path, shelf: Shelf
    ) -> None:
        """Also where the version that is wanted serves, and no installation clears the slot."""
        async with booted(tmp_path, shelf) as device:
            first = shelf.desired_model("a", 1, "onnx-int8")
            device.reconciler.set_desired(desired_state(1, first))
            await device.wait_reached(1)
            shelf.holds["a"] = asyncio.Event()
            device.reconciler.set_desired(desired_state(2, shelf.desired_model("a", 2, "onnx-int8")))
            await wait_until_async(lambda: "a:2:onnx-int8" in shelf.fetched)
            device.reconciler.set_desired(desired_state(3, first))
            await device.wait_reached(3)
            device.reconciler.set_desired(desired_state(4, first))
            await device.wait_reached(4)
            slots = tmp_path / "models" / "a" / "slots"
            assert sorted(path.name for path in slots.rglob("*.part")) == []
