"""What the gates of a phase say."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.latency import LatencyHistogram, merge_histograms
from edgeward_coordinator.rollouts.evidence import Evidence, ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.gates import is_settled, judge
from edgeward_coordinator.rollouts.rollout import DeviceState, GateResult, GateState
from tests.rollout_values import make_evidence, make_latency, make_phase

if TYPE_CHECKING:
    from edgeward_coordinator.rollouts.phases import Phase

OFFLINE, UPDATING, PROBATION = DeviceState.OFFLINE, DeviceState.UPDATING, DeviceState.PROBATION
SUCCEEDED, FAILED, SILENT, STUCK = DeviceState.SUCCEEDED, DeviceState.FAILED, DeviceState.SILENT, DeviceState.STUCK


def gate_of(name: str, phase: Phase, evidence: Evidence) -> GateResult | None:
    """One gate of a phase."""
    gates, _ = judge(phase, evidence, memory=None)
    return next((gate for gate in gates if gate.name == name), None)


def state_of(name: str, phase: Phase, evidence: Evidence) -> GateState:
    """What one gate says, which has to be there."""
    gate = gate_of(name, phase, evidence)
    assert gate is not None
    return gate.state


@pytest.mark.parametrize(
    ("ratio", "devices", "state"),
    [
        (0.0, {}, GateState.PENDING),
        (0.0, {OFFLINE: 3}, GateState.PENDING),
        (0.0, {UPDATING: 1}, GateState.PENDING),
        (0.0, {SUCCEEDED: 1}, GateState.OPEN),
        (0.0, {SUCCEEDED: 1, OFFLINE: 99}, GateState.OPEN),
        (0.0, {SUCCEEDED: 99, FAILED: 1}, GateState.FAILED),
        (0.0, {SUCCEEDED: 99, SILENT: 1}, GateState.FAILED),
        (0.0, {UPDATING: 99, STUCK: 1}, GateState.FAILED),
        (0.02, {UPDATING: 98, FAILED: 2}, GateState.PENDING),
        (0.02, {UPDATING: 97, FAILED: 3}, GateState.FAILED),
        (0.02, {UPDATING: 48, OFFLINE: 50, FAILED: 2}, GateState.PENDING),
        (0.02, {SUCCEEDED: 48, OFFLINE: 50, FAILED: 2}, GateState.FAILED),
        (0.02, {SUCCEEDED: 98, FAILED: 2}, GateState.OPEN),
        (0.1, {SUCCEEDED: 9, FAILED: 1}, GateState.OPEN),
        (1.0, {SUCCEEDED: 1, FAILED: 9}, GateState.OPEN),
        (1.0, {FAILED: 9}, GateState.PENDING),
    ],
)
def test_install(ratio: float, devices: dict[DeviceState, int], state: GateState) -> None:
    """Fails where it can't be mended any more, opens where nobody on the way could matter."""
    assert state_of("install", make_phase(max_failed_ratio=ratio), make_evidence(devices)) is state


def test_install_needs_as_many_as_there_are() -> None:
    """A plan that wants ten of a group of two is content with two; with none it never is."""
    phase = make_phase(min_devices=10)
    assert state_of("install", phase, make_evidence({SUCCEEDED: 2})) is GateState.OPEN
    assert state_of("install", phase, make_evidence({SUCCEEDED: 2, OFFLINE: 1})) is GateState.PENDING
    assert state_of("install", phase, make_evidence({})) is GateState.PENDING


def test_silence_is_named() -> None:
    """Who reads it sees that nobody said anything."""
    gate = gate_of("install", make_phase(), make_evidence({SUCCEEDED: 2, SILENT: 2, STUCK: 1, FAILED: 1, OFFLINE: 4}))
    assert gate is not None
    assert gate.text == "2 of 6 devices have it, 4 failed (2 fell silent, 1 stuck), not one may; 4 away or waiting"


@pytest.mark.parametrize(
    ("calls", "errors", "needed", "state"),
    [
        (0, 0, 0, GateState.OPEN),
        (0, 0, 20, GateState.PENDING),
        (20, 0, 20, GateState.OPEN),
        (3, 1, 0, GateState.PENDING),
        (3, 3, 1000, GateState.FAILED),
        (100, 1, 20, GateState.OPEN),
        (10_000, 110, 20, GateState.PENDING),
        (10_000, 300, 20, GateState.FAILED),
    ],
)
def test_errors(calls: int, errors: int, needed: int, state: GateState) -> None:
    """One error in three calls is no proof; what is beyond chance fails before there is all the evidence."""
    evidence = make_evidence(new=VersionEvidence(calls=calls, errors=errors))
    assert state_of("errors", make_phase(max_error_ratio=0.01, min_predictions=needed), evidence) is state


def test_errors_of_a_shadow_are_those_of_its_own_calls() -> None:
    """The version that serves is not judged."""
    evidence = make_evidence(new=VersionEvidence(calls=9), shadow=ShadowEvidence(calls=9, errors=9))
    assert state_of("errors", make_phase(mode="shadow", max_error_ratio=0.01), evidence) is GateState.FAILED


LATENCY = make_phase(max_latency_ratio=2.0, min_predictions=50)


@pytest.mark.parametrize(
    ("new", "state"),
    [
        (make_latency(0.001, 0), GateState.PENDING),
        (make_latency(0.001, 49), GateState.PENDING),
        (make_latency(0.001, 50), GateState.OPEN),
        (make_latency(0.0019, 100), GateState.OPEN),
        (make_latency(0.003, 3), GateState.FAILED),
        (make_latency(0.003, 100), GateState.FAILED),
        (merge_histograms([make_latency(0.001, 60), make_latency(0.003, 1)]), GateState.PENDING),
        (merge_histograms([make_latency(0.001, 1000), make_latency(0.003, 5)]), GateState.OPEN),
    ],
    ids=["none", "too-few", "alike", "within", "three-slow", "slow", "one-slow-of-61", "five-slow-of-1005"],
)
def test_latency(new: LatencyHistogram, state: GateState) -> None:
    """p99 against p99: a slow version fails after a few calls, one slow call fails nobody."""
    evidence = make_evidence(new=VersionEvidence(latency=new), old=VersionEvidence(latency=make_latency(0.001, 200)))
    assert state_of("latency", LATENCY, evidence) is state


@pytest.mark.parametrize("old", [0.001, 0.00104, 0.00109])
def test_width_of_a_bucket_fails_nobody(old: float) -> None:
    """Twice as slow is within a limit of two, wherever in its bucket it lies."""
    new = VersionEvidence(latency=make_latency(2 * old, 10_000))
    evidence = make_evidence(new=new, old=VersionEvidence(latency=make_latency(old, 200)))
    assert state_of("latency", LATENCY, evidence) is GateState.OPEN


@pytest.mark.parametrize(("mode", "state"), [("serve", GateState.OPEN), ("ab", GateState.PENDING)])
def test_latency_without_an_old_version_is_not_compared(mode: Any, state: GateState) -> None:
    """Where the old version never served there is nothing to wait for; where it serves on there is."""
    evidence = make_evidence(new=VersionEvidence(latency=make_latency(9.0, 100)))
    gate = gate_of("latency", make_phase(mode=mode, max_latency_ratio=2.0), evidence)
    assert gate is not None
    assert (gate.state, "not compared" in gate.text) == (state, True)


@pytest.mark.parametrize(
    ("labelled", "correct", "state"),
    [
        (0, 0, GateState.PENDING),
        (29, 29, GateState.PENDING),
        (30, 27, GateState.OPEN),
        (30, 26, GateState.PENDING),
        (12, 2, GateState.FAILED),
        (1000, 860, GateState.FAILED),
    ],
)
def test_accuracy_floor(labelled: int, correct: int, state: GateState) -> None:
    """Judged as good on enough labels, as bad as soon as chance can't explain it."""
    evidence = make_evidence(new=VersionEvidence(labelled=labelled, correct=correct))
    assert state_of("accuracy", make_phase(min_accuracy=0.9), evidence) is state


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        ((1000, 950), (100, 94), GateState.OPEN),
        ((1000, 950), (100, 92), GateState.PENDING),
        ((1000, 950), (1000, 800), GateState.FAILED),
        ((30, 30), (100, 94), GateState.PENDING),
        ((0, 0), (100, 10), GateState.OPEN),
    ],
    ids=["within", "perhaps", "worse", "old-is-uncertain-too", "old-unknown"],
)
def test_accuracy_drop(old: tuple[int, int], new: tuple[int, int], state: GateState) -> None:
    """Against the old version's accuracy on the same devices, which is an estimate as well."""
    evidence = make_evidence(
        new=VersionEvidence(labelled=new[0], correct=new[1]), old=VersionEvidence(labelled=old[0], correct=old[1])
    )
    assert state_of("accuracy", make_phase(max_accuracy_drop=0.02), evidence) is state


@pytest.mark.parametrize(
    ("rows", "agreed", "state"),
    [
        (0, 0, GateState.PENDING),
        (100, 90, GateState.OPEN),
        (10, 9, GateState.OPEN),
        (100, 85, GateState.PENDING),
        (100, 50, GateState.FAILED),
    ],
)
def test_agreement(rows: int, agreed: int, state: GateState) -> None:
    """Of the rows that both answered; without one there is no agreement."""
    evidence = make_evidence(shadow=ShadowEvidence(rows=rows, agreed=agreed))
    assert state_of("agreement", make_phase(mode="shadow", min_agreement=0.9), evidence) is state


def test_gates_that_do_not_apply_are_left_out() -> None:
    """A phase without limits is judged by its devices alone."""
    gates, memory = judge(make_phase(), make_evidence(), memory=None)
    assert [gate.name for gate in gates] == ["install"]
    assert memory == {}


def run_ab(phase: Phase, *, old: VersionEvidence, new: VersionEvidence, looks: int = 60) -> GateResult:
    """Judge after each of so many equal helpings."""
    memory: Any = None
    gates: tuple[GateResult, ...] = ()
    for look in range(looks + 1):
        evidence = make_evidence(new=times(new, look), old=times(old, look))
        gates, memory = judge(phase, evidence, memory=memory)
        memory = json.loads(json.dumps(memory, allow_nan=False))
    return gates[-1]


def times(evidence: VersionEvidence, factor: int) -> VersionEvidence:
    """So many times as much."""
    return VersionEvidence(
        calls=evidence.calls * factor,
        errors=evidence.errors * factor,
        labelled=evidence.labelled * factor,
        correct=evidence.correct * factor,
    )


@pytest.mark.parametrize(
    ("new", "values", "state"),
    [
        (VersionEvidence(calls=10, errors=5), {}, GateState.FAILED),
        (VersionEvidence(calls=10, errors=1), {}, GateState.PENDING),
        (VersionEvidence(calls=10, errors=1), {"max_error_ratio": 0.2}, GateState.OPEN),
        (VersionEvidence(calls=10, errors=0), {}, GateState.OPEN),
        (VersionEvidence(calls=10, errors=0, labelled=10, correct=4), {}, GateState.FAILED),
    ],
    ids=["worse", "the-same", "the-same-with-a-margin", "better", "worse-by-labels"],
)
def test_ab(new: VersionEvidence, values: dict[str, Any], state: GateState) -> None:
    """Worse fails, better or not worse by more than the margin opens; right answers count before good calls."""
    old = VersionEvidence(calls=10, errors=1, labelled=10, correct=9)
    assert run_ab(make_phase(mode="ab", **values), old=old, new=new).state is state


def test_ab_counts_calls_before_it_opens() -> None:
    """A verdict on fewer calls than the plan wants waits for them."""
    phase = make_phase(mode="ab", max_error_ratio=0.2, min_predictions=10_000)
    good = VersionEvidence(calls=10)
    assert run_ab(phase, old=good, new=good).state is GateState.PENDING


@pytest.mark.parametrize(
    ("ratio", "devices", "settled"),
    [
        (0.0, {}, False),
        (0.0, {OFFLINE: 5}, False),
        (0.0, {SUCCEEDED: 1, OFFLINE: 5}, True),
        (0.0, {SUCCEEDED: 999, PROBATION: 1}, False),
        (0.02, {SUCCEEDED: 985, UPDATING: 10, FAILED: 5}, True),
        (0.02, {SUCCEEDED: 970, UPDATING: 25, FAILED: 5}, False),
    ],
)
def test_devices_have_settled_when_those_on_the_way_cannot_fail_it(
    ratio: float, devices: dict[DeviceState, int], *, settled: bool
) -> None:
    """In a large fleet somebody is always on the way; where not one may fail everyone is awaited."""
    assert is_settled(make_phase(max_failed_ratio=ratio), make_evidence(devices)) == settled


_counts = st.integers(0, 10**7)
_buckets = st.dictionaries(st.integers(-200, 50), st.integers(1, 10**6), max_size=5).map(Counter)
_latencies = st.builds(LatencyHistogram, counts=_buckets, zeros=st.integers(0, 5))
_versions = st.builds(
    VersionEvidence, calls=_counts, errors=_counts, labelled=_counts, correct=_counts, latency=_latencies
)
_evidence = st.builds(
    Evidence,
    new=_versions,
    old=_versions,
    shadow=st.builds(ShadowEvidence, rows=_counts, agreed=_counts, calls=_counts, errors=_counts, latency=_latencies),
    devices=st.dictionaries(st.sampled_from(DeviceState), st.integers(0, 1000)),
)


@given(
    seen=st.lists(_evidence, min_size=1, max_size=4),
    mode=st.sampled_from(["serve", "shadow", "ab"]),
    limit=st.floats(0, 1),
)
def test_any_evidence_is_judged(seen: list[Evidence], mode: Any, limit: float) -> None:
    """Whatever devices report, errors above calls included, gates and memory are numbers that JSON can hold."""
    phase = make_phase(
        mode=mode,
        max_failed_ratio=limit,
        max_error_ratio=limit,
        max_latency_ratio=1.0,
        min_accuracy=1 - limit,
        max_accuracy_drop=limit,
        min_agreement=1 - limit,
    )
    memory = None
    for evidence in seen:
        gates, memory = judge(phase, evidence, memory=memory)
        figures = [(gate.value, gate.limit, gate.evidence, gate.evidence_needed) for gate in gates]
        json.dumps([figures, memory], allow_nan=False)
        assert gates[0].name == "install"
