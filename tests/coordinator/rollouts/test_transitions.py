"""Where a rollout can go."""

from __future__ import annotations

from itertools import product

import pytest

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_coordinator.rollouts.rollout import RolloutState
from edgeward_coordinator.rollouts.transitions import (
    TRANSITIONS,
    NotAllowed,
    RolloutEvent,
    event_of_action,
    events_of,
    is_no_op,
    next_state,
)
from scripts import render_rollouts
from tests.rollout_values import make_rollout

PAIRS = list(product(RolloutState, RolloutEvent))
ACTIONS = {"pause", "resume", "abort", "promote", "roll_back"}
OVER = {RolloutState.SUCCEEDED, RolloutState.ROLLED_BACK, RolloutState.ABORTED}


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_pair_is_in_the_table_or_refused(state: RolloutState, event: RolloutEvent) -> None:
    """What is not in the table is an error of the caller's that names both."""
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(NotAllowed, match=state.replace("_", " ")) as caught:
        next_state(state, event)
    assert isinstance(caught.value, FailedPrecondition)
    assert caught.value.hint


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_no_op_is_no_transition(state: RolloutState, event: RolloutEvent) -> None:
    """What is so already changes nothing, and so is never a change as well; only people ask twice."""
    if is_no_op(state, event):
        assert (state, event) not in TRANSITIONS
        assert event in ACTIONS


@pytest.mark.parametrize("action", sorted(ACTIONS - {"resume", "promote"}))
def test_action_twice_is_the_action_once(action: str) -> None:
    """Whatever an action leads to, asking for it there again is no change."""
    event = event_of_action(action)
    reached = {TRANSITIONS[pair] for pair in TRANSITIONS if pair[1] is event}
    assert reached
    assert all(is_no_op(state, event) for state in reached)


def test_resuming_what_runs_changes_nothing() -> None:
    """Resume is idempotent too."""
    assert events_of(make_rollout(), RolloutEvent.RESUME) == ()


@pytest.mark.parametrize("state", sorted(OVER))
def test_what_has_ended_stays_ended(state: RolloutState) -> None:
    """No event leads out of an end, but that a person rolls back what had succeeded."""
    assert state.is_over
    ways_out = [event for ended, event in TRANSITIONS if ended is state]
    assert ways_out == ([RolloutEvent.ROLL_BACK] if state is RolloutState.SUCCEEDED else [])


def test_every_state_leads_to_an_end() -> None:
    """No rollout can be caught: from each state an end can be reached."""
    ending = set(OVER)
    while more := {state for (state, _), reached in TRANSITIONS.items() if reached in ending} - ending:
        ending |= more
    assert ending == set(RolloutState)


def test_promoting_the_last_phase_finishes() -> None:
    """The end of the last phase is the end of the rollout, also when a person ends it."""
    assert events_of(make_rollout(phase=0), RolloutEvent.PROMOTE) == (RolloutEvent.PROMOTE,)
    assert events_of(make_rollout(phase=1), RolloutEvent.PROMOTE) == (RolloutEvent.PROMOTE, RolloutEvent.FINISHED)


def test_refusal_says_what_is_possible() -> None:
    """The hint lists what a person can do from there."""
    with pytest.raises(NotAllowed, match="queued can't pause; it can abort"):
        events_of(make_rollout(state=RolloutState.QUEUED), RolloutEvent.PAUSE)


def test_unknown_action_is_refused() -> None:
    """Only people's events are actions."""
    with pytest.raises(InvalidArgument, match="finished"):
        event_of_action("finished")


def test_page_shows_the_tables() -> None:
    """What people read is what the code does."""
    assert render_rollouts.PAGE.read_text() == render_rollouts.rendered_page()
