"""The states of a job."""

from __future__ import annotations

import itertools

import pytest

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.jobs.job import TRANSITIONS, JobEvent, JobState, next_state


@pytest.mark.parametrize(("state", "event"), list(itertools.product(JobState, JobEvent)), ids=str)
def test_only_what_the_table_says_can_happen(state: JobState, event: JobEvent) -> None:
    """An ended job stays as it is, and nothing ends that did not start."""
    if (state, event) in TRANSITIONS:
        assert not state.has_ended
        assert next_state(state, event).has_ended is (event is not JobEvent.STARTED)
    else:
        with pytest.raises(FailedPrecondition, match=f"a job that is {state}"):
            next_state(state, event)


def test_interrupted_job_can_start_again() -> None:
    """A restart of the coordinator is no end."""
    assert next_state(JobState.RUNNING, JobEvent.STARTED) is JobState.RUNNING
