"""Where a rollout can go: the table. What is not in it is refused, or is no change at all.

    state, event -> next state

`promote` ends the present phase as passed; of the last phase that is the end of
the rollout, so `events_of` gives PROMOTE and then FINISHED there. What has
ended stays ended, but for one that succeeded: a person may still roll it back,
while the group's deployment is what it made of it. From the other ends the way
on is another rollout, or a deployment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_coordinator.rollouts.rollout import RolloutState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward_coordinator.rollouts.rollout import Rollout


class RolloutEvent(StrEnum):
    """What can happen to a rollout: by its gates, or by a person."""

    START = "start"  # nothing of the same model and group goes first any more
    PHASE_PASSED = "phase_passed"
    FINISHED = "finished"  # the last phase passed
    GATE_FAILED = "gate_failed"
    EVIDENCE_MISSING = "evidence_missing"  # the phase's time is over and a gate can't be judged
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    RETURNED = "returned"  # every device that is not away is back


_S, _E = RolloutState, RolloutEvent

TRANSITIONS: Final[Mapping[tuple[RolloutState, RolloutEvent], RolloutState]] = {
    (_S.QUEUED, _E.START): _S.RUNNING,
    (_S.QUEUED, _E.ABORT): _S.ABORTED,
    (_S.RUNNING, _E.PHASE_PASSED): _S.RUNNING,
    (_S.RUNNING, _E.PROMOTE): _S.RUNNING,
    (_S.RUNNING, _E.FINISHED): _S.SUCCEEDED,
    (_S.RUNNING, _E.GATE_FAILED): _S.ROLLING_BACK,
    (_S.RUNNING, _E.ROLL_BACK): _S.ROLLING_BACK,
    (_S.RUNNING, _E.EVIDENCE_MISSING): _S.PAUSED,
    (_S.RUNNING, _E.PAUSE): _S.PAUSED,
    (_S.RUNNING, _E.ABORT): _S.ABORTED,
    (_S.PAUSED, _E.GATE_FAILED): _S.ROLLING_BACK,
    (_S.PAUSED, _E.RESUME): _S.RUNNING,
    (_S.PAUSED, _E.PROMOTE): _S.RUNNING,
    (_S.PAUSED, _E.ROLL_BACK): _S.ROLLING_BACK,
    (_S.PAUSED, _E.ABORT): _S.ABORTED,
    (_S.SUCCEEDED, _E.ROLL_BACK): _S.ROLLING_BACK,
    (_S.ROLLING_BACK, _E.RETURNED): _S.ROLLED_BACK,
}

# What is asked for again once it is so.
_ALREADY: Final[Mapping[RolloutEvent, frozenset[RolloutState]]] = {
    _E.PAUSE: frozenset({_S.PAUSED}),
    _E.RESUME: frozenset({_S.RUNNING}),
    _E.ABORT: frozenset({_S.ABORTED}),
    _E.PROMOTE: frozenset({_S.SUCCEEDED}),
    _E.ROLL_BACK: frozenset({_S.ROLLING_BACK, _S.ROLLED_BACK}),
}

_ACTIONS: Final = {str(event): event for event in _ALREADY}


class NotAllowed(FailedPrecondition):
    """A rollout can't do that from where it is."""

    def __init__(self, state: RolloutState, event: RolloutEvent) -> None:
        possible = [str(each) for each in _ACTIONS.values() if (state, each) in TRANSITIONS]
        hint = f"it can {_listed(possible)}" if possible else _hint_of_an_end(state)
        super().__init__(f"a rollout that is {_words(state)} can't {_words(event)}", hint=_words(hint))
        self.state = state
        self.event = event


def next_state(state: RolloutState, event: RolloutEvent) -> RolloutState:
    """Where an event takes a rollout.

    Raises:
        NotAllowed: Nowhere; ask `is_no_op` first where asking twice is no error.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise NotAllowed(state, event) from None


def is_no_op(state: RolloutState, event: RolloutEvent) -> bool:
    """Whether what a person asks for is so already: pausing what is paused, aborting what is aborted."""
    return state in _ALREADY.get(event, ())


def event_of_action(action: str) -> RolloutEvent:
    """The event that a person's action is: "pause", "resume", "abort", "promote" or "roll_back".

    Raises:
        InvalidArgument: No such action.
    """
    try:
        return _ACTIONS[action]
    except KeyError:
        raise InvalidArgument(f"no action {action[:40]!r} on a rollout", hint=f"give {_listed(_ACTIONS)}") from None


def events_of(rollout: Rollout, event: RolloutEvent) -> tuple[RolloutEvent, ...]:
    """What to apply, in order, when that is asked for: nothing where it is so already.

    Raises:
        NotAllowed: It can't from where it is.
    """
    if is_no_op(rollout.state, event):
        return ()
    next_state(rollout.state, event)
    ends = event is RolloutEvent.PROMOTE and rollout.phase == len(rollout.plan.phases) - 1
    return (event, RolloutEvent.FINISHED) if ends else (event,)


def _hint_of_an_end(state: RolloutState) -> str:
    if state.is_over:
        return "it has ended; start another one, or deploy the version that should run"
    return "it ends by itself"


def _listed(names: Mapping[str, RolloutEvent] | list[str]) -> str:
    *rest, last = list(names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _words(name: str) -> str:
    return name.replace("_", " ")
