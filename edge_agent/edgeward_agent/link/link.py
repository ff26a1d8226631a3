"""The link: one connection that the session, fetches, reports and exchanges share.

There is a connection exactly while there is a session. Every other call rides on
it and is `Interrupted` at once without one: the session's backoff then is the
only thing that decides when a device knocks at its coordinator's door.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from edgeward.v1 import agent_pb2, agent_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, transfer_pb2
from edgeward_agent.artifacts import FetchInterrupted, InstallError
from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.identity import IssuedCredential
from edgeward_agent.link.channel import channel_options, open_channel
from edgeward_agent.link.errors import translated_errors
from edgeward_agent.link.session import open_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import Hello
    from edgeward_agent.identity import Identity
    from edgeward_agent.link.session import Session
    from edgeward_agent.link.traffic import Traffic
    from edgeward_agent.telemetry import SealedBatch

    AgentStub = agent_pb2_grpc.AgentServiceAsyncStub


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Waits of the link."""

    connect_timeout: timedelta = timedelta(seconds=20)
    """TCP and TLS together, over the worst mobile network that is still of use."""

    call_timeout: timedelta = timedelta(seconds=30)
    """The deadline of a unary call, and of the welcome."""

    stall_timeout: timedelta = timedelta(seconds=60)
    """The longest wait for the next piece of a stream; a stream as a whole may take days on a slow line."""

    keepalive: timedelta = timedelta(seconds=150)
    """Between pings on an idle connection: within the 2 to 4 minutes that servers, NAT tables and batteries bear."""


class Link:
    """The device's side of `AgentService`, and of renewal."""

    def __init__(self, identity: Identity, *, traffic: Traffic, settings: LinkSettings | None = None) -> None:
        self._identity = identity
        self._traffic = traffic
        self._settings = settings or LinkSettings()
        self._channel: grpc.aio.Channel | None = None
        self._session: Session | None = None

    @property
    def identity(self) -> Identity:
        """As whom the next session is opened."""
        return self._identity

    @property
    def settings(self) -> LinkSettings:
        """The waits."""
        return self._settings

    @property
    def traffic(self) -> Traffic:
        """The counters of payload bytes."""
        return self._traffic

    def stub(self) -> AgentStub:
        """The service over the present connection.

        Raises:
            Interrupted: There is none.
        """
        return agent_pb2_grpc.AgentServiceStub(self._connected())

    @asynccontextmanager
    async def session(self, hello: Hello) -> AsyncIterator[Session]:
        """Connect and open the session; the connection ends with it.

        Raises:
            Refused: The coordinator does not take this device.
            Interrupted: No connection, or no welcome.
        """
        identity = self._identity
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.fleet_ca_pem,
            private_key=identity.key_pem,
            certificate_chain=identity.certificate_pem,
        )
        async with open_channel(
            identity.address,
            credentials,
            options=channel_options(self._settings.keepalive),
            connect_timeout=self._settings.connect_timeout,
        ) as channel:
            call = agent_pb2_grpc.AgentServiceStub(channel).Session()  # type: ignore[call-arg]
            try:
                timeout_s = self._settings.call_timeout.total_seconds()
                self._session = await open_session(call, hello, timeout_s=timeout_s)
                self._channel = channel
                yield self._session
            finally:
                self._channel = self._session = None
                call.cancel()

    async def adopt(self, identity: Identity) -> None:
        """From now on be `identity`: the present session ends in peace, the next one shows the new certificate."""
        self._identity = identity
        if self._session is not None:
            self._session.end()

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """The bytes of an artifact from `offset` on, piece by piece.

        Raises:
            InstallError: The coordinator does not have it, or does not give it to this device.
            FetchInterrupted: The bytes stopped coming.
        """
        try:
            async with aclosing(self._pieces(digest, offset)) as pieces:
                async for piece in pieces:
                    yield piece
        except Refused as error:
            raise InstallError(f"the coordinator does not give artifact {digest[:12]}: {error}") from error
        except Interrupted as error:
            raise FetchInterrupted(error.message, hint=error.hint) from error

    async def report(self, batches: Sequence[SealedBatch]) -> list[int]:
        """Send sealed telemetry.

        Returns:
            The sequence numbers that the coordinator has committed.

        Raises:
            Refused: The coordinator can't read them.
            Interrupted: No answer; it is not known whether they were committed, and sending them again is harmless.
        """
        request = agent_pb2.ReportRequest(
            batches=[
                agent_pb2.TelemetryEnvelope(epoch=batch.epoch, sequence=batch.sequence, payload=batch.payload)
                for batch in batches
            ]
        )
        with translated_errors():
            response = await self.stub().Report(request, timeout=self._settings.call_timeout.total_seconds())
        self._traffic.sent_bytes += sum(len(batch.payload) for batch in batches)
        return list(response.committed)

    async def renew(self, csr_pem: bytes) -> IssuedCredential:
        """Ask for a new certificate.

        Raises:
            Refused: The coordinator said no.
            Interrupted: No connection, or no answer.
        """
        stub: enrollment_pb2_grpc.EnrollmentServiceAsyncStub
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(self._connected())
        with translated_errors():
            response = await stub.Renew(
                enrollment_pb2.RenewRequest(csr_pem=csr_pem), timeout=self._settings.call_timeout.total_seconds()
            )
        return IssuedCredential(certificate_pem=response.certificate_pem, fleet_ca_pem=response.fleet_ca_pem)

    async def _pieces(self, digest: Digest, offset: int) -> AsyncGenerator[bytes, None]:
        call = self.stub().Fetch(agent_pb2.FetchRequest(sha256=digest, offset=offset))
        try:
            position = offset
            while True:
                with translated_errors():
                    async with asyncio.timeout(self._settings.stall_timeout.total_seconds()):
                        chunk = await call.read()
                if not isinstance(chunk, transfer_pb2.Chunk):
                    return
                if chunk.offset != position:
                    raise Interrupted(f"the coordinator sent byte {chunk.offset} where byte {position} follows")
                position += len(chunk.data)
                self._traffic.received_bytes += len(chunk.data)
                yield chunk.data
        finally:
            call.cancel()

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise Interrupted("there is no connection to the coordinator")
        return self._channel
