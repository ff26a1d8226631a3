"""The slot store as a whole: any order of what can be asked of it, with kills between any two persisted steps.

What must hold at every moment, for any process that looks: what serves, and what
runs beside it, was verified and checked; once a version has proven itself,
something serves; and while one is on probation the proven one is whole behind it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from edgeward.protocol.digests import digest_of, digest_of_file
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward_agent.artifacts import (
    FetchInterrupted,
    InstallError,
    SlotStore,
    resolve_active,
    resolve_candidate,
)
from edgeward_agent.artifacts.active import read_pointer, verify_slot
from edgeward_agent.artifacts.slot_files import bytes_in
from tests.agent.artifacts.patches import offer_patch
from tests.agent.models_on_disk import ArtifactSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.targets import PatchOffer
    from edgeward_agent.artifacts import ActiveModel

MODELS = ("scale", "other")
VERSIONS = (1, 2, 3, 4)
# Passes every test but that of the device.
WRONG = 4

# Most of the time nothing happens: otherwise no update would ever be followed by another.
KILLS = st.sampled_from([0] * 12 + list(range(1, 13)))
STOPS = st.sampled_from([None] * 8 + [700, 2000])

SPEC = TensorSpec(name="x", dtype="float32", shape=(None, 4))
SIGNATURE = Signature(inputs=(SPEC,), outputs=(SPEC,))


class Killed(BaseException):
    """The process ended here."""


class Fleet:
    """Four versions, patches between all of them, and a device's check that refuses the last."""

    def __init__(self) -> None:
        self.source = ArtifactSource(piece_bytes=700)
        self.flavors = {version: self._make(version) for version in VERSIONS}
        self.patches: dict[int, list[PatchOffer]] = {}
        with tempfile.TemporaryDirectory() as name:
            for target in VERSIONS:
                others = [base for base in VERSIONS if base != target]
                self.patches[target] = [
                    offer_patch(self.source, Path(name), self.flavors[base], self.flavors[target]) for base in others
                ]

    def _make(self, version: int) -> Flavor:
        common = b"".join(digest_of(bytes([number])).encode() for number in range(40))
        content = common + bytes([version]) * 32
        return Flavor(
            name="onnx-fp32",
            format="onnx",
            precision="fp32",
            digest=self.source.add(content),
            total_bytes=len(content),
            golden_digest=None,
            golden_bytes=0,
            signature=SIGNATURE,
        )

    async def check(self, path: Path, flavor: Flavor, _golden: GoldenSet | None) -> None:
        """What the store asks before anything serves; a file that was not verified would be noticed here."""
        assert digest_of_file(path) == flavor.digest
        if flavor == self.flavors[WRONG]:
            raise InstallError("it computes wrong numbers")

    def version_of(self, active: ActiveModel) -> int:
        """The version that a file is, by its bytes."""
        digest = digest_of_file(active.path)
        return next(version for version, flavor in self.flavors.items() if flavor.digest == digest)


@pytest.fixture(scope="module", name="fleet")
def make_fleet() -> Fleet:
    """Made once; patches take their time."""
    return Fleet()


class Slots(RuleBasedStateMachine):
    """One device with two models."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet
        self.folder = Path(tempfile.mkdtemp(prefix="edgeward-slots-"))
        self.models = self.folder / "models"
        self.release = 0
        self.kill_in = 0
        self.proven: set[str] = set()
        self.failed: set[tuple[str, int]] = set()
        self.limit: int | None = None
        self.store = self._open()

    @initialize(models=st.sampled_from([None, None, None, 5, 2.5, 1.5]), version=st.sampled_from([0, 1, 2, 3]))
    def begin(self, models: float | None, version: int) -> None:
        """So many models fit, and a first one is there or not."""
        if models is not None:
            self.store.close()
            self.limit = int(models * (self.fleet.flavors[1].total_bytes + 3500))
            self.store = self._open()
        if version:
            self.install("scale", version, on_probation=False, by_patch=False, is_new=False, stop_after=None, kill_in=0)

    @rule(version=st.sampled_from(VERSIONS[:-1]), on_probation=st.booleans(), by_patch=st.booleans())
    def update(self, version: int, *, on_probation: bool, by_patch: bool) -> None:
        """The usual case, often enough that one update follows another."""
        self.install(
            "scale", version, on_probation=on_probation, by_patch=by_patch, is_new=True, stop_after=None, kill_in=0
        )

    @rule(version=st.sampled_from(VERSIONS[:-1]), by_patch=st.booleans())
    def try_out(self, version: int, *, by_patch: bool) -> None:
        """What serves is proven, and another version runs beside it."""
        self.commit("scale", 0)
        self.stage("scale", version, CandidateMode.SHADOW, by_patch=by_patch, kill_in=0)

    @rule(
        model=st.sampled_from(MODELS),
        version=st.sampled_from(VERSIONS),
        on_probation=st.booleans(),
        by_patch=st.booleans(),
        is_new=st.booleans(),
        stop_after=STOPS,
        kill_in=KILLS,
    )
    def install(
        self,
        model: str,
        version: int,
        *,
        on_probation: bool,
        by_patch: bool,
        is_new: bool,
        stop_after: int | None,
        kill_in: int,
    ) -> None:
        """Install, under a new release or not, over a link that breaks or not."""
        self.release += is_new
        self.fleet.source.stop_after = stop_after
        before = bytes_in(self.models)

        def act() -> object:
            return asyncio.run(
                self.store.install(
                    model,
                    version,
                    self.fleet.flavors[version],
                    fetch=self.fleet.source.fetch,
                    check=self.fleet.check,
                    release=self.release,
                    probation=ProbationRules() if on_probation else None,
                    patches=self.fleet.patches[version] if by_patch else (),
                )
            )

        if self._run(act, kill_in):
            active = resolve_active(self.models / model).active
            assert active is not None
            assert active.version == version
            self.failed.discard((model, version))
        if self.limit is not None:
            assert bytes_in(self.models) <= max(self.limit, before)

    @rule(
        model=st.sampled_from(MODELS),
        version=st.sampled_from(VERSIONS),
        mode=st.sampled_from(CandidateMode),
        by_patch=st.booleans(),
        kill_in=KILLS,
    )
    def stage(self, model: str, version: int, mode: CandidateMode, *, by_patch: bool, kill_in: int) -> None:
        """Run a version beside what serves."""

        def act() -> object:
            return asyncio.run(
                self.store.stage(
                    model,
                    version,
                    self.fleet.flavors[version],
                    fetch=self.fleet.source.fetch,
                    check=self.fleet.check,
                    mode=mode,
                    share=0.5,
                    release=self.release,
                    patches=self.fleet.patches[version] if by_patch else (),
                )
            )

        if self._run(act, kill_in):
            candidate = resolve_candidate(self.models / model)
            assert candidate is not None
            assert (candidate.active.version, candidate.mode) == (version, mode)
            self.failed.discard((model, version))

    @rule(model=st.sampled_from(MODELS), kill_in=st.integers(0, 2))
    def drop_candidate(self, model: str, kill_in: int) -> None:
        """End what runs beside."""
        if self._run(lambda: self.store.drop_candidate(model), kill_in):
            assert self.store.candidate(model) is None

    @rule(model=st.sampled_from(MODELS), kill_in=st.integers(0, 1))
    def commit(self, model: str, kill_in: int) -> None:
        """What serves has proven itself."""
        before = self.store.active(model)
        if self._run(lambda: self.store.commit(model), kill_in) and before is not None:
            after = self.store.active(model)
            assert after is not None
            assert (after.version, after.generation, after.probation) == (before.version, before.generation, None)

    @rule(model=st.sampled_from(MODELS), kill_in=st.integers(0, 3))
    def roll_back(self, model: str, kill_in: int) -> None:
        """What is on probation has failed."""
        before = self.store.active(model)
        if self._run(lambda: self.store.roll_back(model, "slow"), kill_in) and before and before.probation:
            self.failed.add((model, before.version))

    @rule(
        model=st.sampled_from(MODELS),
        wanted=st.sets(st.tuples(st.sampled_from(MODELS), st.sampled_from(VERSIONS)), max_size=3),
        what=st.sampled_from(["collect", "collect", "lose", "remove"]),
    )
    def tidy_or_lose(self, model: str, wanted: set[tuple[str, int]], what: str) -> None:
        """Rubbish goes, a model is no longer desired, or a power cut takes a pointer: what is left is a good guess."""
        match what:
            case "collect":
                self.store.collect(wanted)
            case "lose":
                (self.models / model / "active.json").unlink(missing_ok=True)
                self._restart()
            case "remove":
                self.store.remove(model)
                assert resolve_active(self.models / model).active is None
                self.proven.discard(model)
                self.failed = {failed for failed in self.failed if failed[0] != model}

    @rule()
    def end_in_order(self) -> None:
        """The agent stops and starts; what serves serves on."""
        before = self.store.installed()
        self.store.close()
        self.store = self._open()
        assert self.store.recover() == []
        assert {model: active.path for model, active in self.store.installed().items()} == {
            model: active.path for model, active in before.items()
        }
        self.store.close()
        self.store = self._open()

    @rule()
    def end_in_a_power_cut(self) -> None:
        """No last words."""
        self._restart()

    @invariant()
    def what_serves_was_verified_and_checked(self) -> None:
        """For any process that looks, whether or not the agent has repaired anything yet."""
        for model in MODELS:
            active = resolve_active(self.models / model).active
            candidate = resolve_candidate(self.models / model)
            for found in (active, candidate.active if candidate else None):
                if found is not None:
                    assert self.fleet.version_of(found) == found.version != WRONG
                    assert (model, found.version) not in self.failed

    @invariant()
    def what_was_proven_is_never_lost(self) -> None:
        """It serves, or it is whole behind what is on probation."""
        for model in MODELS:
            folder = self.models / model
            active = resolve_active(folder).active
            if model in self.proven:
                assert active is not None
                if active.probation is not None:
                    pointer = read_pointer(folder)
                    assert pointer is not None
                    assert pointer.former is not None
                    verify_slot(folder, pointer.former)
            if active is not None and active.probation is None:
                self.proven.add(model)

    @invariant()
    def starts_are_few(self) -> None:
        """Nobody serves on a third try."""
        for active in self.store.installed().values():
            assert active.probation is None or active.probation.starts < 3

    def teardown(self) -> None:
        """Leave nothing."""
        self.store.close()
        shutil.rmtree(self.folder)

    def _open(self) -> SlotStore:
        return SlotStore(self.models, checkpoint=self._pass, max_bytes=self.limit)

    def _pass(self, _step: str) -> None:
        self.kill_in -= 1
        if self.kill_in == 0:
            raise Killed

    def _run(self, act: Callable[[], object], kill_in: int) -> bool:
        """Act, killed at the step of this number (0: not at all); whether all went well."""
        self.kill_in = kill_in
        try:
            act()
        except Killed:
            self.kill_in = 0
            self.what_serves_was_verified_and_checked()
            self._restart()
        except (InstallError, FetchInterrupted):
            return False
        finally:
            self.kill_in = 0
            self.fleet.source.stop_after = None
        return kill_in == 0

    def _restart(self) -> None:
        self.store._lock.close()
        self.store = self._open()
        with suppress(Killed):
            self.store.recover()


def test_any_order_and_any_kill(fleet: Fleet) -> None:
    """The invariants hold."""
    run_state_machine_as_test(
        lambda: Slots(fleet),  # type: ignore[arg-type]  # a factory is taken as well as a class
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
