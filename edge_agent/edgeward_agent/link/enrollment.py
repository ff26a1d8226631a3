"""The request for a first certificate, over TLS that only the pinned CA can vouch for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc

from edgeward.v1 import enrollment_pb2, enrollment_pb2_grpc
from edgeward_agent.errors import Interrupted
from edgeward_agent.identity import EnrollmentResult, IssuedCredential
from edgeward_agent.link.channel import channel_options, open_channel
from edgeward_agent.link.diagnose import diagnose_connection
from edgeward_agent.link.errors import translated_errors
from edgeward_agent.link.link import LinkSettings

if TYPE_CHECKING:
    from edgeward_agent.identity import EnrollmentRequest


class GrpcEnrollmentClient:
    """`EnrollmentClient` over gRPC."""

    def __init__(self, settings: LinkSettings | None = None) -> None:
        self._settings = settings or LinkSettings()

    async def enroll(self, request: EnrollmentRequest, *, address: str, ca_pem: bytes) -> EnrollmentResult:
        """Ask once; the token leaves only after the server has proved to be of the CA.

        Raises:
            Refused: Wrong, spent or expired token, or the server has no certificate for this name.
            Interrupted: No answer.
        """
        message = enrollment_pb2.EnrollRequest(
            token=request.token,
            csr_pem=request.csr_pem,
            device_name=request.device_name,
            labels=dict(request.labels),
        )
        try:
            response = await self._ask(message, address=address, ca_pem=ca_pem)
        except Interrupted as error:
            cause = await asyncio.to_thread(
                diagnose_connection, address, fleet_ca_pem=ca_pem, now=datetime.now(UTC), identity=None
            )
            raise (cause or error) from error
        return EnrollmentResult(
            device_id=response.device_id,
            group=response.group,
            issued=IssuedCredential(certificate_pem=response.certificate_pem, fleet_ca_pem=response.fleet_ca_pem),
            device_port=response.device_port,
            trusted_root=response.trusted_root,
        )

    async def _ask(
        self, message: enrollment_pb2.EnrollRequest, *, address: str, ca_pem: bytes
    ) -> enrollment_pb2.EnrollResponse:
        async with open_channel(
            address,
            grpc.ssl_channel_credentials(root_certificates=ca_pem),
            options=channel_options(self._settings.keepalive),
            connect_timeout=self._settings.connect_timeout,
        ) as channel:
            stub: enrollment_pb2_grpc.EnrollmentServiceAsyncStub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            with translated_errors():
                return await stub.Enroll(message, timeout=self._settings.call_timeout.total_seconds())
