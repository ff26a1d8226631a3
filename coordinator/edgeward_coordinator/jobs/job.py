"""A job and its states, as a table: what is not in it is an error.

A job that was running when its coordinator stopped is started again; what it
had made stays made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward_coordinator.registry import RegisteredFlavor


class JobState(StrEnum):
    """Where a job is."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (JobState.FINISHED, JobState.FAILED)


class JobEvent(StrEnum):
    """What can happen to a job."""

    STARTED = "started"
    DONE = "done"
    BROKE = "broke"


TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (JobState.PENDING, JobEvent.STARTED): JobState.RUNNING,
    (JobState.RUNNING, JobEvent.STARTED): JobState.RUNNING,  # again, after a restart
    (JobState.RUNNING, JobEvent.DONE): JobState.FINISHED,
    (JobState.RUNNING, JobEvent.BROKE): JobState.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSpec:
    """What was asked for, and what has come of it.

    `flavors` is empty where all that can be made are wanted. A name is in `made`
    before its flavor is registered, so a restart in between loses no trace.
    """

    flavors: tuple[str, ...]
    seed: int
    made: tuple[str, ...] = ()
    skipped: Mapping[str, str]
    """Flavor to reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of central work; `activity` says what it does now, or in the end what it did."""

    id: str
    kind: str
    state: JobState
    model: str
    version: int
    spec: CompressionSpec
    activity: str
    error: str
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    flavors: tuple[RegisteredFlavor, ...] = ()
    """Made so far."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """Where `event` leads from `state`.

    Raises:
        FailedPrecondition: Nowhere.

    >>> next_state(JobState.PENDING, JobEvent.STARTED)
    <JobState.RUNNING: 'running'>
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise FailedPrecondition(f"a job that is {state} can't become one that {event}")
    return following
