"""Who signs what may run, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.v1 import trust_pb2, trust_pb2_grpc
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.trust import status_to_message

if TYPE_CHECKING:
    from typing import Any

    import grpc

    from edgeward_coordinator.trust import Trust

    Context = grpc.aio.ServicerContext[Any, Any]


class TrustServicer(trust_pb2_grpc.TrustServiceServicer):
    """Roles, projects, and what is signed elsewhere."""

    def __init__(self, *, trust: Trust) -> None:
        self._trust = trust

    async def GetTrust(self, request: trust_pb2.GetTrustRequest, context: Context) -> trust_pb2.GetTrustResponse:
        """The roles in force, their keys, and what waits."""
        return status_to_message(await in_thread(self._trust.roles))

    async def ChangeRole(self, request: trust_pb2.ChangeRoleRequest, context: Context) -> trust_pb2.ChangeRoleResponse:
        """Other keys or another threshold; with neither, new keys for those that the coordinator holds."""
        waiting = await in_thread(
            self._trust.change_role,
            request.role,
            add=list(request.add_public_pem),
            remove=list(request.remove_key_ids),
            threshold=request.threshold,
            actor=current_caller().require_principal().name,
        )
        return trust_pb2.ChangeRoleResponse(waiting_for_roles=waiting)

    async def PutProject(self, request: trust_pb2.PutProjectRequest, context: Context) -> trust_pb2.PutProjectResponse:
        """A project, new or changed."""
        waiting = await in_thread(
            self._trust.put_project,
            request.name,
            prefix=request.prefix,
            public_pems=list(request.public_pem),
            threshold=request.threshold,
            actor=current_caller().require_principal().name,
        )
        return trust_pb2.PutProjectResponse(waiting_for_roles=waiting)

    async def RemoveProject(
        self, request: trust_pb2.RemoveProjectRequest, context: Context
    ) -> trust_pb2.RemoveProjectResponse:
        """Its models belong to the role "targets" again."""
        actor = current_caller().require_principal().name
        waiting = await in_thread(self._trust.remove_project, request.name, actor=actor)
        return trust_pb2.RemoveProjectResponse(waiting_for_roles=waiting)

    async def ExportPending(
        self, request: trust_pb2.ExportPendingRequest, context: Context
    ) -> trust_pb2.ExportPendingResponse:
        """What waits for signatures of keys that are not here."""
        return trust_pb2.ExportPendingResponse(document=await in_thread(self._trust.export_pending))

    async def ImportSigned(
        self, request: trust_pb2.ImportSignedRequest, context: Context
    ) -> trust_pb2.ImportSignedResponse:
        """Signatures made elsewhere."""
        actor = current_caller().require_principal().name
        imported = await in_thread(self._trust.import_signed, request.document, actor=actor)
        return trust_pb2.ImportSignedResponse(
            published_roles=imported.published_roles, waiting_for_roles=imported.waiting_for_roles
        )
