"""The table of states, pair by pair."""

from __future__ import annotations

import itertools

import pytest

from edgeward_coordinator.aggregation.states import TRANSITIONS, RunEvent, RunState, next_state
from edgeward_coordinator.errors import FailedPrecondition

_PAIRS = list(itertools.product(RunState, RunEvent))


@pytest.mark.parametrize(("state", "event"), _PAIRS, ids=lambda value: value.value)
def test_what_is_not_in_the_table_is_an_error(state: RunState, event: RunEvent) -> None:
    """Each pair leads where the table says, or nowhere."""
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(FailedPrecondition, match=state.value):
            next_state(state, event)


def test_ended_runs_stay_ended() -> None:
    """Nothing leads out of a state in which a run has ended, and every other leads on."""
    leads_on = {state for state, _ in TRANSITIONS}
    assert leads_on == {state for state in RunState if not state.has_ended}


def test_every_run_can_be_stopped_or_fail_until_it_has_ended() -> None:
    """An operator is never stuck with a run."""
    for state in RunState:
        if not state.has_ended:
            assert TRANSITIONS[state, RunEvent.OPERATOR_STOPPED] is RunState.STOPPED
            assert TRANSITIONS[state, RunEvent.APP_FAILED] is RunState.FAILED
