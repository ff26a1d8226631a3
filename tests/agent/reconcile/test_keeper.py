"""The keeper of versions on trial, with the real store of slots and real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.reconcile import ProbationKeeper
from edgeward_agent.telemetry import Subject, TrialFile
from tests.agent.models_on_disk import ArtifactSource, accept
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from edgeward.protocol.telemetry import DeviceEvent
    from edgeward_agent.artifacts import ActiveModel

RULES = ProbationRules(duration=timedelta(seconds=60), min_predictions=0, max_error_ratio=0.05)

DIES = """
import os, signal, sys
from pathlib import Path
from edgeward_agent.telemetry import Subject, TrialFile
role, version, digest, generation = sys.argv[2:]
subject = Subject(role=role, version=int(version), digest=digest, generation=int(generation))
trial = TrialFile(Path(sys.argv[1]), subject)
with trial.at_work():
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Bench:
    """A device with version 1 that has proven itself, a clock that is set by hand, and a keeper."""

    def __init__(self, root: Path) -> None:
        self.trials = root / "trials"
        self.store = SlotStore(root / "models")
        self.now_s = 1000.0
        self.meanwhile: Callable[[], object] = lambda: None
        self.events: list[DeviceEvent] = []
        self.changes = 0
        self._source = ArtifactSource()
        self._root = root
        self.keeper = self.make_keeper()

    def make_keeper(self) -> ProbationKeeper:
        """As after a start of the agent."""
        return ProbationKeeper(
            self.store,
            self.trials,
            monotonic=self._tell_time,
            release_of=lambda _model: 9,
            record=self.events.append,
            changed=self._count,
        )

    async def install(self, version: int, rules: ProbationRules | None = RULES) -> ActiveModel:
        """Another version."""
        flavor = self._source.make_flavor(self._root / "source", factor=float(version))
        return await self.store.install(
            "scale", version, flavor, fetch=self._source.fetch, check=accept, release=version, probation=rules
        )

    async def stage(self, version: int) -> ActiveModel:
        """A candidate."""
        flavor = self._source.make_flavor(self._root / "source", factor=float(version))
        await self.store.stage(
            "scale",
            version,
            flavor,
            fetch=self._source.fetch,
            check=accept,
            mode=CandidateMode.SHADOW,
            share=0.0,
            release=9,
        )
        candidate = self.store.candidate("scale")
        assert candidate is not None
        return candidate.active

    def serves(self) -> int:
        """The version."""
        active = self.store.active("scale")
        return active.version if active is not None else 0

    def is_on_probation(self) -> bool:
        """What serves."""
        active = self.store.active("scale")
        return active is not None and active.probation is not None

    def starts(self) -> int:
        """That count against what is on probation."""
        active = self.store.active("scale")
        assert active is not None
        assert active.probation is not None
        return active.probation.starts

    def saw(self, active: ActiveModel, *, calls: int, errors: int = 0) -> TrialFile:
        """A process of the device."""
        trial = TrialFile(self.trials / "scale", subject_of(active))
        for call in range(calls):
            trial.count(rows=1, failed=call < errors)
        trial.write()
        return trial

    def dies(self, active: ActiveModel, role: str = "active") -> None:
        """A process of the device."""
        facts = [role, str(active.version), active.digest, str(active.generation)]
        subprocess.run([sys.executable, "-c", DIES, self.trials / "scale", *facts], check=False)

    def _tell_time(self) -> float:
        """The keeper asks for it between what it reads of the store and its verdict."""
        self.meanwhile()
        return self.now_s

    async def _count(self) -> None:
        self.changes += 1


def subject_of(active: ActiveModel) -> Subject:
    """On probation."""
    return Subject(role="active", version=active.version, digest=active.digest, generation=active.generation)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Version 1 serves and has proven itself."""
    made = Bench(tmp_path)
    await made.install(1, None)
    yield made
    made.store.close()


async def test_a_version_that_behaves_is_committed_in_time(bench: Bench) -> None:
    """Not a moment sooner; who serves is told, and nothing of the trial stays."""
    active = await bench.install(2)
    trial = bench.saw(active, calls=10)
    await bench.keeper.look()
    bench.now_s += 59.9
    await bench.keeper.look()
    assert bench.is_on_probation()
    assert bench.changes == 0
    bench.now_s += 0.2
    await bench.keeper.look()
    assert (bench.serves(), bench.is_on_probation(), bench.changes) == (2, False, 1)
    (event,) = bench.events
    assert event.kind == "committed"
    assert event.detail == {"model": "scale", "version": "2", "flavor": "onnx-fp32"}
    assert list((bench.trials / "scale").iterdir()) == []
    trial.close()


async def test_a_version_that_fails_is_sent_back(bench: Bench) -> None:
    """At once, with the reason, and it is refused under its release."""
    active = await bench.install(2)
    trial = bench.saw(active, calls=9, errors=7)
    await bench.keeper.look()
    assert (bench.serves(), bench.is_on_probation(), bench.changes) == (1, False, 1)
    (event,) = bench.events
    reason = "7 of 9 calls failed (77.8%); at most 5.0% may"
    assert event.kind == "rolled_back"
    assert (event.detail["reason"], event.detail["to_version"]) == (reason, "1")
    (refusal,) = bench.store.refusals("scale")
    assert (refusal.version, refusal.release, refusal.reason) == (2, 2, reason)
    trial.close()


async def test_the_second_process_that_dies_sends_it_back(bench: Bench) -> None:
    """The first may have been killed by a person."""
    active = await bench.install(2)
    bench.dies(active)
    await bench.keeper.look()
    assert bench.serves() == 2
    bench.dies(active)
    await bench.keeper.look()
    assert bench.serves() == 1
    assert bench.events[-1].detail["reason"] == "2 processes died while they served it"


@pytest.mark.parametrize(("calls", "errors"), [(10, 0), (9, 7)], ids=["good", "bad"])
async def test_a_verdict_does_not_fall_on_another_version(bench: Bench, calls: int, errors: int) -> None:
    """A version that came to serve while its predecessor was judged stays on its own probation."""
    active = await bench.install(2)
    await bench.keeper.look()
    bench.saw(active, calls=calls, errors=errors).close()
    bench.now_s += 60.1
    loop = asyncio.get_running_loop()

    def install() -> None:
        bench.meanwhile = lambda: None
        asyncio.run_coroutine_threadsafe(bench.install(3), loop).result(30)

    bench.meanwhile = install
    await bench.keeper.look()
    assert (bench.serves(), bench.is_on_probation(), bench.changes) == (3, True, 0)
    assert bench.events == []
    assert bench.store.refusals("scale") == ()
    await bench.keeper.look()
    assert (bench.serves(), bench.is_on_probation()) == (3, True)


async def test_a_verdict_does_not_fall_on_another_candidate(bench: Bench) -> None:
    """One that was staged while its predecessor was judged stays."""
    candidate = await bench.stage(2)
    await bench.keeper.look()
    bench.dies(candidate, "candidate")
    bench.dies(candidate, "candidate")
    loop = asyncio.get_running_loop()

    def stage() -> None:
        bench.meanwhile = lambda: None
        asyncio.run_coroutine_threadsafe(bench.stage(3), loop).result(30)

    bench.meanwhile = stage
    await bench.keeper.look()
    present = bench.store.candidate("scale")
    assert present is not None
    assert present.active.version == 3
    assert bench.events == []


async def test_a_version_that_can_not_be_loaded_is_sent_back_at_once(bench: Bench) -> None:
    """Whichever process found out."""
    active = await bench.install(2)
    TrialFile(bench.trials / "scale", subject_of(active)).fail("scale version 2 can't be loaded: no such operator")
    await bench.keeper.look()
    assert bench.serves() == 1
    assert bench.events[-1].detail["reason"] == "scale version 2 can't be loaded: no such operator"


async def test_the_very_first_version_can_fail_too(tmp_path: Path) -> None:
    """Then nothing serves, and that is told."""
    bench = Bench(tmp_path)
    active = await bench.install(1)
    bench.saw(active, calls=5, errors=5).close()
    await bench.keeper.look()
    assert bench.serves() == 0
    assert bench.events[-1].detail["to_version"] == "0"
    bench.store.close()


async def test_a_restart_does_not_begin_the_time_anew(bench: Bench) -> None:
    """And what passed while the agent did not run does not count."""
    await bench.install(2)
    await bench.keeper.look()
    bench.now_s += 40
    await bench.keeper.look()
    bench.keeper.close()
    bench.now_s = 5.0  # another boot
    bench.keeper = bench.make_keeper()
    await bench.keeper.look()
    bench.now_s += 19
    await bench.keeper.look()
    assert bench.is_on_probation()
    bench.now_s += 2
    await bench.keeper.look()
    assert not bench.is_on_probation()


async def test_a_candidate_that_kills_processes_is_dropped(bench: Bench) -> None:
    """And refused; what serves is not concerned."""
    candidate = await bench.stage(2)
    bench.dies(candidate, "candidate")
    await bench.keeper.look()
    assert bench.store.candidate("scale") is not None
    bench.dies(candidate, "candidate")
    await bench.keeper.look()
    assert bench.store.candidate("scale") is None
    assert bench.serves() == 1
    (refusal,) = bench.store.refusals("scale")
    assert (refusal.version, refusal.release) == (2, 9)
    assert bench.events[-1].kind == "refused"


async def test_what_was_seen_of_a_candidate_is_not_held_against_its_probation(bench: Bench) -> None:
    """Promoted, it begins anew."""
    candidate = await bench.stage(2)
    bench.dies(candidate, "candidate")
    await bench.keeper.look()
    active = await bench.install(2)
    bench.dies(active)
    await bench.keeper.look()
    assert bench.serves() == 2


async def test_it_sleeps_while_nothing_is_on_trial_and_wakes_for_it(bench: Bench) -> None:
    """And judges soon after what a process tells."""
    task = asyncio.create_task(bench.keeper.run())
    try:
        active = await bench.install(2)
        bench.keeper.wake()
        bench.saw(active, calls=5, errors=5).close()
        await wait_until_async(lambda: bench.serves() == 1)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_disk_that_takes_no_write_ends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial goes on, and the verdict comes when it can be kept."""
    active = await bench.install(2)
    await bench.keeper.look()
    bench.now_s += 61

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edgeward_agent.artifacts.model_folder.write_atomic", full)
        await bench.keeper.look()
    assert bench.is_on_probation()
    await bench.keeper.look()
    assert not bench.is_on_probation()
    assert active.version == bench.serves()


async def test_a_start_counts_no_more_after_five_minutes(bench: Bench) -> None:
    """Three power cuts in a week of probation send no good version back."""
    await bench.install(2, ProbationRules(duration=timedelta(days=7)))
    bench.store.recover()
    bench.now_s += 299
    await bench.keeper.look()
    assert bench.starts() == 1
    bench.now_s += 1
    await bench.keeper.look()
    assert bench.starts() == 0
