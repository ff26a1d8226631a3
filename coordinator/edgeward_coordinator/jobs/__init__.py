"""Jobs: central work that outlives a restart, one at a time, each in a process of its own."""

from edgeward_coordinator.jobs.job import Job, JobState
from edgeward_coordinator.jobs.jobs import Jobs

__all__ = ["Job", "JobState", "Jobs"]
