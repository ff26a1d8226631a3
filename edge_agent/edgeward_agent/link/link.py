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
from edgeward_agent.artifacts import BadDelivery, FetchInterrupted
from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.identity import IssuedCredential
from edgeward_agent.link.channel import channel_options, open_channel
from edgeward_agent.link.errors import NotThere, translated_errors
from edgeward_agent.link.pace import Pace
from edgeward_agent.link.session import open_session
from edgeward_agent.trust import Untrusted

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

    least_bytes_per_s: float = 256.0
    """A stream down that is slower over `pace_window` ends, so that whoever sends a byte a minute does not hold a
    download, and what waits behind it, for ever. A tenth of what GPRS gives."""

    pace_window: timedelta = timedelta(minutes=5)
    """Of waiting for the other side; longer than the holes of a mobile network."""

    metadata_timeout: timedelta = timedelta(minutes=30)
    """For one whole file of signed metadata: 5 MiB, the largest, at 3 KB/s."""

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
            BadDelivery: The coordinator does not have it, or does not give it to this device. It may well do so
                at another time: a blob that is restored, a grant that comes late, an impostor that goes.
            FetchInterrupted: The bytes stopped coming.
        """
        try:
            async with aclosing(self._pieces(agent_pb2.FetchRequest(sha256=digest, offset=offset))) as pieces:
                async for piece in pieces:
                    yield piece
        except Refused as error:
            raise BadDelivery(f"the coordinator does not give artifact {digest[:12]}: {error}") from error
        except Interrupted as error:
            raise FetchInterrupted(error.message, hint=error.hint) from error

    async def fetch_metadata(self, name: str, max_bytes: int) -> bytes | None:
        """A file of signed metadata; nothing of it is believed here.

        Returns:
            Its content; None: the coordinator has no such file.

        Raises:
            Untrusted: It is longer than `max_bytes`, or the coordinator does not give it.
            Interrupted: It stopped coming, or took too long.
        """
        content = bytearray()
        try:
            with translated_errors():
                async with (
                    asyncio.timeout(self._settings.metadata_timeout.total_seconds()),
                    aclosing(self._pieces(agent_pb2.FetchRequest(metadata=name))) as pieces,
                ):
                    async for piece in pieces:
                        content += piece
                        if len(content) > max_bytes:
                            raise Untrusted(f"the coordinator's {name} is longer than {max_bytes} bytes")
        except NotThere:
            return None
        except Refused as error:
            raise Untrusted(f"the coordinator does not give {name}: {error}") from error
        return bytes(content)

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

    def pace(self) -> Pace:
        """For a new stream down."""
        return Pace(
            least_bytes_per_s=self._settings.least_bytes_per_s, window_s=self._settings.pace_window.total_seconds()
        )

    async def _pieces(self, request: agent_pb2.FetchRequest) -> AsyncGenerator[bytes, None]:
        call = self.stub().Fetch(request)
        clock = asyncio.get_running_loop().time
        pace = self.pace()
        try:
            position = request.offset
            while True:
                asked_at = clock()
                with translated_errors():
                    async with asyncio.timeout(self._settings.stall_timeout.total_seconds()):
                        chunk = await call.read()
                if not isinstance(chunk, transfer_pb2.Chunk):
                    return
                pace.note(len(chunk.data), waited_s=clock() - asked_at)
                if chunk.offset != position:
                    raise Interrupted(f"the coordinator sent byte {chunk.offset} where byte {position} follows")
                if not chunk.data:
                    return  # only an end is empty; else a stream of nothing would keep this busy for ever
                position += len(chunk.data)
                self._traffic.received_bytes += len(chunk.data)
                yield chunk.data
        finally:
            call.cancel()

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise Interrupted("there is no connection to the coordinator")
        return self._channel
