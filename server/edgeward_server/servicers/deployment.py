"""Which group runs which version, and rollouts that change it in phases, for operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edgeward.v1 import deployment_pb2, deployment_pb2_grpc
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.deployment import deployment_to_message
from edgeward_server.wire.rollout import rollout_to_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    import grpc

    from edgeward_coordinator.deployment import Deployments
    from edgeward_coordinator.rollouts import Rollout, Rollouts
    from edgeward_server.sessions import SessionHub

    Context = grpc.aio.ServicerContext[Any, Any]


# A watch asks so often whether the rollout was written; that is one look-up.
_LOOKS_APART_S = 0.5


class DeploymentServicer(deployment_pb2_grpc.DeploymentServiceServicer):
    """Desired states by group; `hub` is told, so that devices that are online hear at once."""

    def __init__(self, *, deployments: Deployments, rollouts: Rollouts, hub: SessionHub) -> None:
        self._deployments = deployments
        self._rollouts = rollouts
        self._hub = hub

    async def SetDeployment(
        self, request: deployment_pb2.SetDeploymentRequest, context: Context
    ) -> deployment_pb2.SetDeploymentResponse:
        """Have a group run a version."""
        deployment = await in_thread(
            self._deployments.set,
            group=request.group,
            model=request.model,
            version=request.version,
            again=request.again,
            actor=current_caller().require_principal().name,
        )
        self._hub.desired_changed()
        return deployment_pb2.SetDeploymentResponse(deployment=deployment_to_message(deployment))

    async def RemoveDeployment(
        self, request: deployment_pb2.RemoveDeploymentRequest, context: Context
    ) -> deployment_pb2.RemoveDeploymentResponse:
        """Have a group run a model no more."""
        generation = await in_thread(
            self._deployments.remove,
            group=request.group,
            model=request.model,
            actor=current_caller().require_principal().name,
        )
        self._hub.desired_changed()
        return deployment_pb2.RemoveDeploymentResponse(generation=generation)

    async def ListDeployments(
        self, request: deployment_pb2.ListDeploymentsRequest, context: Context
    ) -> deployment_pb2.ListDeploymentsResponse:
        """What is deployed, and how far it has come."""
        found = await in_thread(self._deployments.list_deployments, group=request.group, model=request.model)
        return deployment_pb2.ListDeploymentsResponse(deployments=[deployment_to_message(each) for each in found])

    async def StartRollout(
        self, request: deployment_pb2.StartRolloutRequest, context: Context
    ) -> deployment_pb2.StartRolloutResponse:
        """Start to change in phases what a group runs."""
        rollout = await in_thread(
            self._rollouts.start,
            model=request.model,
            version=request.version,
            group=request.group,
            plan_toml=request.plan_toml,
            queue=request.queue,
            actor=current_caller().require_principal().name,
        )
        return deployment_pb2.StartRolloutResponse(rollout=await self._told_of(rollout))

    async def ListRollouts(
        self, request: deployment_pb2.ListRolloutsRequest, context: Context
    ) -> deployment_pb2.ListRolloutsResponse:
        """The newest rollouts, newest first."""
        found = await in_thread(
            self._rollouts.list_rollouts, group=request.group, model=request.model, live_only=request.live_only
        )
        return deployment_pb2.ListRolloutsResponse(rollouts=[rollout_to_message(each) for each in found])

    async def GetRollout(
        self, request: deployment_pb2.GetRolloutRequest, context: Context
    ) -> deployment_pb2.GetRolloutResponse:
        """A rollout as it is now, with its devices."""
        return deployment_pb2.GetRolloutResponse(rollout=await self._shown(request.rollout_id))

    async def WatchRollout(
        self, request: deployment_pb2.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[deployment_pb2.WatchRolloutResponse]:
        """The rollout now, then again whenever it was written, until it is over."""
        shown = -1
        while True:
            revision = await in_thread(self._rollouts.revision, request.rollout_id)
            if revision != shown:
                view = await in_thread(self._rollouts.view, request.rollout_id)
                shown = view.rollout.revision
                yield deployment_pb2.WatchRolloutResponse(rollout=rollout_to_message(view))
                if view.rollout.state.is_over:
                    return
            await asyncio.sleep(_LOOKS_APART_S)

    async def ControlRollout(
        self, request: deployment_pb2.ControlRolloutRequest, context: Context
    ) -> deployment_pb2.ControlRolloutResponse:
        """Pause, resume, abort, promote or roll back."""
        rollout = await in_thread(
            self._rollouts.control,
            request.rollout_id,
            request.action,
            reason=request.reason,
            phase=request.phase,
            actor=current_caller().require_principal().name,
        )
        return deployment_pb2.ControlRolloutResponse(rollout=await self._told_of(rollout))

    async def _told_of(self, rollout: Rollout) -> deployment_pb2.Rollout:
        self._hub.desired_changed()
        self._hub.tell_news()
        return await self._shown(rollout.id)

    async def _shown(self, rollout_id: str) -> deployment_pb2.Rollout:
        return rollout_to_message(await in_thread(self._rollouts.view, rollout_id))
