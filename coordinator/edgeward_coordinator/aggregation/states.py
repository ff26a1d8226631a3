"""The states of a run, as a table: what is not in it is an error.

A coordinator that restarts changes no state: a run that was running is running,
and goes on from its journal.
"""

from __future__ import annotations

from enum import StrEnum

from edgeward_coordinator.errors import FailedPrecondition


class RunState(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self in (RunState.FINISHED, RunState.FAILED, RunState.STOPPED)


class RunEvent(StrEnum):
    """What can happen to a run."""

    DEVICES_GATHERED = "devices gathered"
    APP_ENDED = "app ended"
    APP_FAILED = "app failed"
    OPERATOR_STOPPED = "operator stopped"


TRANSITIONS: dict[tuple[RunState, RunEvent], RunState] = {
    (RunState.PENDING, RunEvent.DEVICES_GATHERED): RunState.RUNNING,
    (RunState.PENDING, RunEvent.APP_FAILED): RunState.FAILED,
    (RunState.PENDING, RunEvent.OPERATOR_STOPPED): RunState.STOPPED,
    (RunState.RUNNING, RunEvent.APP_ENDED): RunState.FINISHED,
    (RunState.RUNNING, RunEvent.APP_FAILED): RunState.FAILED,
    (RunState.RUNNING, RunEvent.OPERATOR_STOPPED): RunState.STOPPED,
}


def next_state(state: RunState, event: RunEvent) -> RunState:
    """Where `event` leads from `state`.

    Raises:
        FailedPrecondition: Nowhere.

    >>> next_state(RunState.PENDING, RunEvent.DEVICES_GATHERED)
    <RunState.RUNNING: 'running'>
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        hint = "start a new one" if state.has_ended else ""
        raise FailedPrecondition(f"{event.value!r} can't happen to a run that is {state.value}", hint=hint)
    return following
