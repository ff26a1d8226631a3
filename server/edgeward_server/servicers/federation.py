"""Federated runs, for operators."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from edgeward.v1 import federation_pb2, federation_pb2_grpc
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.federation import request_from_message, run_to_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    import grpc

    from edgeward_coordinator.aggregation import Runs

    Context = grpc.aio.ServicerContext[Any, Any]


class FederationServicer(federation_pb2_grpc.FederationServiceServicer):
    """Starting, watching and stopping runs."""

    def __init__(self, *, runs: Runs) -> None:
        self._runs = runs

    async def StartRun(
        self, request: federation_pb2.StartRunRequest, context: Context
    ) -> federation_pb2.StartRunResponse:
        """Start a run of an app whose bundle was uploaded."""
        actor = current_caller().require_principal().name
        run = await in_thread(self._runs.start, request_from_message(request), actor=actor)
        return federation_pb2.StartRunResponse(run=run_to_message(run))

    async def ListRuns(
        self, request: federation_pb2.ListRunsRequest, context: Context
    ) -> federation_pb2.ListRunsResponse:
        """The newest runs, newest first."""
        runs = await in_thread(self._runs.list_runs, request.group)
        return federation_pb2.ListRunsResponse(runs=[run_to_message(run) for run in runs])

    async def GetRun(self, request: federation_pb2.GetRunRequest, context: Context) -> federation_pb2.GetRunResponse:
        """A run as it is now."""
        run = await in_thread(self._runs.get, request.run_id)
        return federation_pb2.GetRunResponse(run=run_to_message(run))

    async def WatchRun(
        self, request: federation_pb2.GetRunRequest, context: Context
    ) -> AsyncIterator[federation_pb2.GetRunResponse]:
        """The run now, then again at each change, until it has ended."""
        async with aclosing(self._runs.changes(request.run_id)) as changes:
            async for run in changes:
                yield federation_pb2.GetRunResponse(run=run_to_message(run))

    async def StopRun(self, request: federation_pb2.StopRunRequest, context: Context) -> federation_pb2.StopRunResponse:
        """End a run."""
        actor = current_caller().require_principal().name
        run = await in_thread(self._runs.stop, request.run_id, actor=actor)
        return federation_pb2.StopRunResponse(run=run_to_message(run))
