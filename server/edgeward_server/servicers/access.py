"""Who may operate the fleet, for admins."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from edgeward.v1 import access_pb2, access_pb2_grpc
from edgeward_coordinator.access import parse_role, verify_may_grant
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.access import credential_to_message
from edgeward_server.wire.durations import duration_from_seconds

if TYPE_CHECKING:
    from typing import Any

    import grpc

    from edgeward_coordinator.access import Access
    from edgeward_coordinator.identity import FleetCA

    Context = grpc.aio.ServicerContext[Any, Any]


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Tokens and certificates of operators."""

    def __init__(self, *, access: Access, ca: FleetCA) -> None:
        self._access = access
        self._ca = ca
        self._version = version("edgeward")

    async def WhoAmI(self, request: access_pb2.WhoAmIRequest, context: Context) -> access_pb2.WhoAmIResponse:
        """The caller, as the coordinator sees them."""
        principal = current_caller().require_principal()
        return access_pb2.WhoAmIResponse(name=principal.name, role=principal.role.word, server_version=self._version)

    async def CreateToken(
        self, request: access_pb2.CreateTokenRequest, context: Context
    ) -> access_pb2.CreateTokenResponse:
        """A token that may no more than its maker."""
        principal, role = current_caller().require_principal(), parse_role(request.role)
        verify_may_grant(role, by=principal.role)
        credential, secret = await in_thread(
            self._access.create_token,
            name=request.name,
            role=role,
            expires_in=duration_from_seconds(request.expires_in_s) if request.expires_in_s else None,
            actor=principal.name,
        )
        return access_pb2.CreateTokenResponse(token=credential_to_message(credential), secret=secret)

    async def ListTokens(
        self, request: access_pb2.ListTokensRequest, context: Context
    ) -> access_pb2.ListTokensResponse:
        """All credentials, the oldest first."""
        credentials = await in_thread(self._access.list_credentials)
        return access_pb2.ListTokensResponse(tokens=[credential_to_message(each) for each in credentials])

    async def RevokeToken(
        self, request: access_pb2.RevokeTokenRequest, context: Context
    ) -> access_pb2.RevokeTokenResponse:
        """Shut the door on a credential."""
        actor = current_caller().require_principal().name
        await in_thread(self._access.revoke, request.id, actor=actor)
        return access_pb2.RevokeTokenResponse()

    async def IssueCertificate(
        self, request: access_pb2.IssueCertificateRequest, context: Context
    ) -> access_pb2.IssueCertificateResponse:
        """A client certificate that may no more than who asks for it."""
        principal, role = current_caller().require_principal(), parse_role(request.role)
        verify_may_grant(role, by=principal.role)
        credential, issued = await in_thread(
            self._access.issue_certificate,
            self._ca,
            csr_pem=request.csr_pem,
            name=request.name,
            role=role,
            lifetime=duration_from_seconds(request.expires_in_s),
            actor=principal.name,
        )
        return access_pb2.IssueCertificateResponse(
            id=credential.id, certificate_pem=issued.pem, fleet_ca_pem=self._ca.certificate_pem
        )
