"""One gRPC server on two listeners.

gRPC's Python server can ask every client for a certificate or none, so the one
that devices come to asks for a certificate of the fleet CA, and the other, for
operators with tokens and for enrollment, asks for none. Both serve all
services; who may call what is one table's matter, see `requirements`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_server.config import join_address
from edgeward_server.interception import FrameInterceptor
from edgeward_server.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward_coordinator.identity import FleetCA
    from edgeward_server.interception import Frame

_LOG = structlog.stdlib.get_logger(__name__)

MAX_MESSAGE_BYTES = 4 << 20

# Idle sessions must live through a client's pings, which a default server answers with too_many_pings.
OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two processes on one port would share its connections in silence.
    ("grpc.so_reuseport", 0),
)


def build_server(frames: Sequence[Frame]) -> grpc.aio.Server:
    """A server without services and listeners yet."""
    return grpc.aio.server(interceptors=[FrameInterceptor(frames)], options=OPTIONS)


class Health:
    """The health service (grpc.health.v1), for the server as a whole and for each service."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def begin(self, services: Sequence[str]) -> None:
        """Say SERVING of each."""
        for service in ("", *services):
            await self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def end(self) -> None:
        """Say NOT_SERVING from now on; idempotent."""
        await self._servicer.enter_graceful_shutdown()


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Tell tools (grpcurl, say) what is served."""
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


class ServerCertificate:
    """The coordinator's own key and certificate, exchanged while it runs when they near their end.

    What is presented is the leaf and the CA: a new device knows the CA's
    fingerprint and takes the CA from the chain.
    """

    def __init__(self, ca: FleetCA, names: Sequence[str]) -> None:
        self._ca = ca
        self._names = tuple(names)
        self._pair = self._issue()

    async def renew_when_due(self) -> None:
        """Take a new certificate where the CA thinks that it is time; connections that stand are not touched."""
        pair = await in_thread(self._issue)
        if pair != self._pair:
            self._pair = pair
            _LOG.info("the coordinator has a new certificate")

    def credentials(self, *, ask_for_certificate: bool) -> grpc.ServerCredentials:
        """For a listener."""
        presented = self._pair

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            """Asked for by gRPC at each handshake; None for no change.

            gRPC takes whatever else it is given for another certificate and exchanges what handshakes on other
            threads are using at that moment, without a lock: with an answer a handshake, a burst of devices
            that connect ends the process (`sync.cc: Check failed: prior > 0`).
            """
            nonlocal presented
            if self._pair == presented:
                return None
            presented = self._pair
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            renewed,  # type: ignore[arg-type]  # None is documented
            require_client_authentication=ask_for_certificate,
        )

    def _issue(self) -> tuple[bytes, bytes]:
        key, leaf = self._ca.issue_server(self._names)
        return key, leaf + self._ca.certificate_pem

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([self._pair], root_certificates=self._ca.certificate_pem)


def listen(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials) -> int:
    """Add a listener.

    Returns:
        The port, also where 0 asked for any.

    Raises:
        FailedPrecondition: The address or the port can't be had.
    """
    where = join_address(host, port)
    try:
        return server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"can't listen on {where}", hint="does another process? Give another --port, or --host"
        ) from error
