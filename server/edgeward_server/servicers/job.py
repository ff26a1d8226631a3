"""Central work, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.model import MAX_ITEMS
from edgeward.v1 import job_pb2, job_pb2_grpc
from edgeward_coordinator.errors import InvalidArgument
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.job import job_to_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    import grpc

    from edgeward_coordinator.jobs import Job, Jobs

    Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """Starting and watching jobs."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    async def StartCompression(
        self, request: job_pb2.StartCompressionRequest, context: Context
    ) -> job_pb2.StartCompressionResponse:
        """Ask for smaller flavors of a version."""
        if len(request.flavors) > MAX_ITEMS:
            raise InvalidArgument(f"{len(request.flavors)} flavors in one request", hint=f"ask for {MAX_ITEMS} at most")
        job = await in_thread(
            self._jobs.start_compression,
            model=request.model,
            version=request.version,
            flavors=request.flavors,
            actor=current_caller().require_principal().name,
        )
        return job_pb2.StartCompressionResponse(job=job_to_message(job))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:
        """The newest jobs, newest first."""
        jobs = await in_thread(self._jobs.list_jobs)
        return job_pb2.ListJobsResponse(jobs=[job_to_message(job) for job in jobs])

    async def WatchJob(self, request: job_pb2.WatchJobRequest, context: Context) -> AsyncIterator[job_pb2.Job]:
        """The job now, then again at each change, until it has ended."""
        shown: Job | None = None
        while shown is None or not shown.state.has_ended:
            seen = self._jobs.change_count(request.job_id)
            job = await in_thread(self._jobs.get, request.job_id)
            if job != shown:
                yield job_to_message(job)
                shown = job
            else:
                await self._jobs.wait_for_change(request.job_id, seen)
