"""The messages of `JobService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import job_pb2
from edgeward_server.wire.registry import registered_flavor_to_message

if TYPE_CHECKING:
    from edgeward_coordinator.jobs import Job


def job_to_message(job: Job) -> job_pb2.Job:
    """To its message; `ended_at` is left out while the job goes on."""
    return job_pb2.Job(
        id=job.id,
        kind=job.kind,
        state=job.state.value,
        model=job.model,
        version=job.version,
        activity=job.activity,
        error=job.error,
        created_at=timestamp_from_instant(job.created_at),
        ended_at=timestamp_from_instant(job.ended_at) if job.ended_at else None,
        flavors=[registered_flavor_to_message(registered) for registered in job.flavors],
    )
