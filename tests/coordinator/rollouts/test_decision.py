"""What a rollout does next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.rollouts.decision import Decision, decide
from edgeward_coordinator.rollouts.evidence import Evidence, VersionEvidence
from edgeward_coordinator.rollouts.rollout import DeviceState, RolloutState
from edgeward_coordinator.rollouts.transitions import TRANSITIONS, RolloutEvent
from tests.rollout_values import after, make_evidence, make_phase, make_rollout

WELL = make_evidence({DeviceState.SUCCEEDED: 4})
UNDERWAY = make_evidence({DeviceState.SUCCEEDED: 3, DeviceState.UPDATING: 1})
AWAY = make_evidence({DeviceState.SUCCEEDED: 4, DeviceState.OFFLINE: 90})
FAILED = make_evidence({DeviceState.SUCCEEDED: 3, DeviceState.FAILED: 1})
EVERYONE = make_phase(name="everyone", share=1.0)


def look(*seen: tuple[float, Evidence], **values: Any) -> Decision:
    """Decide at each of these minutes in turn, each time with the memory of the last."""
    memory: Any = None
    decision = Decision(gates=(), memory=None)
    for minutes, evidence in seen:
        decision = decide(make_rollout(memory=memory, **values), evidence, now=after(minutes=minutes))
        memory = decision.memory
    return decision


def look_at(phase: Any, *seen: tuple[float, Evidence]) -> Decision:
    """The same, of a rollout of this phase and one for everyone."""
    memory: Any = None
    decision = Decision(gates=(), memory=None)
    for minutes, evidence in seen:
        decision = decide(make_rollout(phase, EVERYONE, memory=memory), evidence, now=after(minutes=minutes))
        memory = decision.memory
    return decision


def test_phase_passes_after_its_soak() -> None:
    """Not before; the soak is 10 minutes."""
    assert look((1, WELL), (10.9, WELL)).event is None
    assert look((1, WELL), (11, WELL)).event is RolloutEvent.PHASE_PASSED


def test_soak_begins_when_the_last_device_has_arrived() -> None:
    """A device that fails late is seen."""
    assert look((0, UNDERWAY), (15, WELL), (24, WELL)).event is None
    assert look((0, UNDERWAY), (15, WELL), (25, WELL)).event is RolloutEvent.PHASE_PASSED


def test_phase_that_begins_anew_soaks_anew() -> None:
    """After a pause what was known before it is no soak."""
    memory = look((1, WELL)).memory
    resumed = make_rollout(started_at=after(minutes=60), memory=dict(memory or {}))
    assert decide(resumed, WELL, now=after(minutes=61)).event is None
    assert decide(resumed, WELL, now=after(minutes=70)).event is RolloutEvent.PHASE_PASSED


def test_last_phase_finishes_though_some_are_away() -> None:
    """They follow through the group's deployment."""
    assert look((0, AWAY), (10, AWAY), phase=1).event is RolloutEvent.FINISHED


def test_failed_gate_ends_it_at_once_and_says_why() -> None:
    """Without a soak, with the phase and the gate in the reason."""
    decision = look((0, FAILED))
    assert decision.event is RolloutEvent.GATE_FAILED
    assert "'canary'" in decision.reason
    assert "install: 3 of 4 devices have it, 1 failed" in decision.reason


def test_paused_rollout_still_heeds_a_failed_gate() -> None:
    """A version that turns out bad overnight does not serve on because the rollout was paused; nothing else happens."""
    assert look((0, WELL), (60, FAILED), state=RolloutState.PAUSED).event is RolloutEvent.GATE_FAILED
    assert look((0, WELL), (24 * 60, WELL), state=RolloutState.PAUSED).event is None


def test_device_that_fails_during_the_soak_ends_it() -> None:
    """That is what the soak is for."""
    assert look((0, WELL), (9, WELL), (10, FAILED)).event is RolloutEvent.GATE_FAILED


def test_pending_gate_holds_the_phase_until_its_time_is_over() -> None:
    """Then it pauses, and says what is missing."""
    phase = make_phase(min_accuracy=0.9)
    assert look_at(phase, (0, WELL), (23 * 60, WELL)).event is None
    decision = look_at(phase, (0, WELL), (24 * 60, WELL))
    assert decision.event is RolloutEvent.EVIDENCE_MISSING
    assert "accuracy: 0 of 0 labelled answers" in decision.reason


@pytest.mark.parametrize(
    ("outcome", "event"), [("pass", RolloutEvent.PHASE_PASSED), ("fail", RolloutEvent.GATE_FAILED)]
)
def test_plan_says_what_missing_evidence_means(outcome: Any, event: RolloutEvent) -> None:
    """In place of a pause."""
    phase = make_phase(min_accuracy=0.9, when_inconclusive=outcome)
    assert look_at(phase, (0, WELL), (24 * 60, WELL)).event is event


@pytest.mark.parametrize("evidence", [UNDERWAY, make_evidence({DeviceState.OFFLINE: 3}), make_evidence({})])
def test_phase_that_no_device_has_shown_never_passes(evidence: Evidence) -> None:
    """Also where the plan does without evidence: a label that nobody has is found out."""
    phase = make_phase(when_inconclusive="pass")
    assert look_at(phase, (0, evidence), (24 * 60, evidence)).event is RolloutEvent.EVIDENCE_MISSING


def test_missing_evidence_after_a_resumption_has_its_time_again() -> None:
    """Else whoever resumes would see it paused again at once."""
    phase = make_phase(min_accuracy=0.9)
    resumed = make_rollout(phase, EVERYONE, started_at=after(hours=30))
    assert decide(resumed, WELL, now=after(hours=31)).event is None


RETURNED, BACK = RolloutEvent.RETURNED, {DeviceState.RETURNED: 3}


@pytest.mark.parametrize(
    ("devices", "minutes", "event"),
    [
        (BACK, 0, RETURNED),
        ({}, 0, RETURNED),
        (BACK | {DeviceState.OFFLINE: 2}, 0, RETURNED),
        (BACK | {DeviceState.UPDATING: 1}, 29, None),
        (BACK | {DeviceState.SUCCEEDED: 1}, 29, None),
        (BACK | {DeviceState.UPDATING: 1}, 30, RETURNED),
    ],
)
def test_roll_back_ends_when_all_who_are_there_are_back(
    devices: dict[DeviceState, int], minutes: float, event: RolloutEvent | None
) -> None:
    """Who is away is not awaited, who is stuck not for ever."""
    rollout = make_rollout(state=RolloutState.ROLLING_BACK, ended_at=after())
    assert decide(rollout, make_evidence(devices), now=after(minutes=minutes)).event is event


def test_reason_of_a_return_names_who_is_not_back() -> None:
    """An operator sees whom to look after."""
    rollout = make_rollout(state=RolloutState.ROLLING_BACK, ended_at=after())
    evidence = make_evidence(BACK | {DeviceState.OFFLINE: 2, DeviceState.UPDATING: 1})
    reason = decide(rollout, evidence, now=after(minutes=30)).reason
    assert reason == (
        "3 devices run what they ran before; 2 are away and return when they are back;"
        " 1 are there and still report the new version"
    )


_evidence = st.builds(
    lambda devices, calls, errors: make_evidence(devices, new=VersionEvidence(calls=calls, errors=min(calls, errors))),
    st.dictionaries(st.sampled_from(DeviceState), st.integers(0, 50)),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
_moments = st.timedeltas(timedelta(), timedelta(days=3))


@given(st.sampled_from(RolloutState), st.sampled_from([0, 1]), st.lists(st.tuples(_moments, _evidence), max_size=6))
def test_every_event_is_allowed_where_it_happens(
    state: RolloutState, phase: int, seen: list[tuple[timedelta, Evidence]]
) -> None:
    """Whatever is seen: it moves by the table only, a paused one only back, and the same look decides the same."""
    memory: Any = None
    for moment, evidence in seen:
        rollout = make_rollout(
            make_phase(max_error_ratio=0.01), EVERYONE, state=state, phase=phase, memory=memory, ended_at=None
        )
        decision = decide(rollout, evidence, now=after() + moment)
        assert decision == decide(rollout, evidence, now=after() + moment)
        if decision.event is not None:
            assert (state, decision.event) in TRANSITIONS
            assert decision.reason
        if state is RolloutState.PAUSED:
            assert decision.event in {None, RolloutEvent.GATE_FAILED}
        elif state not in {RolloutState.RUNNING, RolloutState.ROLLING_BACK}:
            assert decision.event is None
        if decision.event in {RolloutEvent.PHASE_PASSED, RolloutEvent.FINISHED}:
            assert (decision.event is RolloutEvent.FINISHED) == (phase == 1)
            assert not evidence.count(DeviceState.FAILED, DeviceState.SILENT, DeviceState.STUCK)
        memory = decision.memory
