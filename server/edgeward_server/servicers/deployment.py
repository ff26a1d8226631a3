"""Which group runs which version, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.v1 import deployment_pb2, deployment_pb2_grpc
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.deployment import deployment_to_message

if TYPE_CHECKING:
    from typing import Any

    import grpc

    from edgeward_coordinator.deployment import Deployments
    from edgeward_server.sessions import SessionHub

    Context = grpc.aio.ServicerContext[Any, Any]


class DeploymentServicer(deployment_pb2_grpc.DeploymentServiceServicer):
    """Desired states by group; `hub` is told, so that devices that are online hear at once."""

    def __init__(self, *, deployments: Deployments, hub: SessionHub) -> None:
        self._deployments = deployments
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
