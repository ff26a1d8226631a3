"""The simulator of the coordinator: the other side of the agent's wire, in this process, under the test's control.

A real grpc.aio server with both listeners (enrollment without client
certificates, devices with), a CA of its own, and no rule of the coordinator
beyond what an agent can see. What it deploys it has signed, in a TUF repository
of its own (`trust`), unless told not to. What it was told is in plain attributes;
what goes wrong is switched on by plain attributes. Methods are safe from any
thread:

    async with SimulatedCoordinator() as coordinator:       # on the test's loop
    with SimulatedCoordinator().in_thread() as coordinator: # for tests of agent processes
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edgeward.protocol import wire
from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.enrollment import EnrollmentString, format_enrollment_string
from edgeward.protocol.instants import timestamp_from_instant
from edgeward.protocol.state import DesiredState
from edgeward.v1 import agent_pb2, agent_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, transfer_pb2
from tests.agent.trust.repository import SimulatedRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.state import DesiredModel, Heartbeat, Hello, ReportedState, RunInvitation

CHUNK_BYTES = 16 << 10


class SimulatedCA:
    """A certificate authority; another instance is another fleet."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated fleet")])
        builder = _builder(self._name, self._name, self._key.public_key(), timedelta(days=1))
        self._certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            self._key, hashes.SHA256()
        )

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER."""
        return hashlib.sha256(self._certificate.public_bytes(Encoding.DER)).hexdigest()

    def sign(self, csr_pem: bytes, *, common_name: str, lifetime: timedelta) -> bytes:
        """A certificate for a request."""
        request = x509.load_pem_x509_csr(csr_pem)
        assert request.is_signature_valid
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _builder(subject, self._name, request.public_key(), lifetime)  # type: ignore[arg-type]
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue_server(self, *, names: tuple[str, ...]) -> tuple[bytes, bytes]:
        """Key and chain (leaf, then CA) of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated coordinator")])
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        leaf = (
            _builder(subject, self._name, key.public_key(), timedelta(days=1))
            .add_extension(alternatives, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key_pem, leaf.public_bytes(Encoding.PEM) + self.certificate_pem


@dataclass
class SimulatedFaults:
    """What goes wrong, switched by a test; each `..._at` breaks one stream at that byte and is then spent."""

    fetch_breaks_at: list[int] = field(default_factory=list)
    pull_breaks_at: list[int] = field(default_factory=list)
    push_breaks_at: list[int] = field(default_factory=list)
    lost_acknowledgements: int = 0
    """So many reports are committed without an answer."""
    skipped_bytes: int = 0
    """So far past the truth are the offsets of chunks down."""
    confirms_another_reply: bool = False
    """A push is confirmed with the digest of something else."""
    damaged: set[str] = field(default_factory=set)
    """Digests whose first byte is sent flipped."""
    refuse_sessions: str = ""
    """Why hellos are refused with UNAUTHENTICATED."""
    longer_by: dict[str, int] = field(default_factory=dict)
    """By digest, or name of a file of metadata: so many more bytes are sent than it has; negative: without end."""
    drips: dict[str, float] = field(default_factory=dict)
    """By digest, or name of a file of metadata: it is sent byte by byte with so many seconds between."""
    sends_nothing: bool = False
    """What is longer than it is consists of empty pieces."""
    deploys_unsigned: bool = False
    """What is deployed is not put into signed metadata: a coordinator that has no key of targets."""


class SimulatedCoordinator:
    """See the module."""

    def __init__(
        self,
        *,
        ca: SimulatedCA | None = None,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        heartbeat_s: float = 0.2,
        lifetime: timedelta = timedelta(hours=1),
        drips: Callable[[], Any] | None = None,
        trust: SimulatedRepository | None = None,
    ) -> None:
        """Set up; nothing listens yet.

        Args:
            ca: The fleet; a new one by default.
            names: What the server's certificate is for.
            heartbeat_s: Asked for in the welcome.
            lifetime: Of device certificates.
            drips: Awaited before each chunk of a fetch, so that a test can hold it.
            trust: What signs what it deploys; a new root of trust by default.
        """
        self.ca = ca or SimulatedCA()
        self.trust = trust or SimulatedRepository()
        self.faults = SimulatedFaults()
        self.heartbeat_s = heartbeat_s
        self.lifetime = lifetime
        self.drips = drips
        self.port = self.device_port = 0
        self.tokens: dict[str, int] = {}
        self.enrolled: dict[str, enrollment_pb2.EnrollRequest] = {}
        self.received_tokens: list[str] = []
        self.renewals: list[str] = []
        self.artifacts: dict[Digest, bytes] = {}
        self.desired = DesiredState(generation=0, models=())
        self.hellos: list[tuple[str, Hello]] = []
        self.refused_hellos = 0
        self.heartbeats: list[tuple[str, Heartbeat]] = []
        self.reported: dict[str, ReportedState] = {}
        self.reported_history: list[tuple[str, ReportedState]] = []
        self.fetches: list[tuple[str, int]] = []
        self.batches: dict[tuple[str, str, int], bytes] = {}
        self.report_calls = 0
        self.messages: dict[tuple[str, str], bytes] = {}
        self.replies: dict[tuple[str, str, str], bytes] = {}
        self._server_key, self._server_chain = self.ca.issue_server(names=names)
        self._server: grpc.aio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions: dict[str, asyncio.Queue[agent_pb2.SessionDown | _Cut]] = {}

    # What a test does.

    @property
    def address(self) -> str:
        """Of the listener without client certificates."""
        return f"127.0.0.1:{self.port}"

    @property
    def device_address(self) -> str:
        """Of the listener with client certificates."""
        return f"127.0.0.1:{self.device_port}"

    @property
    def online(self) -> set[str]:
        """The devices with an open session."""
        return set(self._sessions)

    def enrollment_string(self, *, token: str = "token", uses: int = 1, fingerprint: str | None = None) -> str:
        """A string to paste on a device."""
        self.tokens[token] = uses
        return format_enrollment_string(
            EnrollmentString(address=self.address, ca_fingerprint=fingerprint or self.ca.fingerprint, secret=token)
        )

    def publish(self, data: bytes) -> Digest:
        """Offer an artifact."""
        digest = digest_of(data)
        self.artifacts[digest] = data
        return digest

    def deploy(self, *models: DesiredModel) -> DesiredState:
        """Make these the desired state of every device, under the next generation; signed, if nothing is set."""
        if not self.faults.deploys_unsigned:
            for model in models:
                self.trust.sign_desired(model)
        self.desired = DesiredState(generation=self.desired.generation + 1, models=models)
        self._tell_all(agent_pb2.SessionDown(desired=wire.desired_to_message(self.desired)))
        return self.desired

    def invite(self, invitation: RunInvitation) -> None:
        """Invite every device."""
        self._tell_all(agent_pb2.SessionDown(invitation=wire.invitation_to_message(invitation)))

    def end_run(self, run_id: str) -> None:
        """Tell every device that a run is over."""
        self._tell_all(agent_pb2.SessionDown(run_ended=agent_pb2.RunEnded(run_id=run_id)))

    def cut_sessions(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, details: str = "cut") -> None:
        """End every session with a status."""
        self._tell_all(_Cut(code, details))

    async def start(self) -> None:
        """Listen; on the same ports as before where there was a before."""
        self._loop = asyncio.get_running_loop()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        servicer = _Servicer(self)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, self._server)  # type: ignore[arg-type]
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(servicer, self._server)  # type: ignore[arg-type]
        pair = [(self._server_key, self._server_chain)]
        public = grpc.ssl_server_credentials(pair)
        private = grpc.ssl_server_credentials(pair, root_certificates=self.ca.certificate_pem, require_client_auth=True)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", public)
        self.device_port = self._server.add_secure_port(f"127.0.0.1:{self.device_port}", private)
        await self._server.start()

    async def stop(self) -> None:
        """Be gone, as after a crash; `start` brings it back with all it knew."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def __aenter__(self) -> SimulatedCoordinator:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    @contextmanager
    def in_thread(self) -> Iterator[SimulatedCoordinator]:
        """Run on a loop of its own, for tests that wait for other processes."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="simulated coordinator")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result(30)
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self.stop(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(30)
            loop.close()

    def stop_in_thread(self) -> None:
        """`stop`, from another thread than the loop's."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(30)

    def start_in_thread(self) -> None:
        """`start` again, from another thread than the loop's."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(30)

    def _tell_all(self, message: agent_pb2.SessionDown | _Cut) -> None:
        def put() -> None:
            for queue in self._sessions.values():
                queue.put_nowait(message)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(put)


@dataclass(frozen=True)
class _Cut:
    code: grpc.StatusCode
    details: str


class _Servicer:
    """Both services; `_` is the simulator."""

    def __init__(self, simulator: SimulatedCoordinator) -> None:
        self._ = simulator

    async def Enroll(self, request: enrollment_pb2.EnrollRequest, context: Any) -> enrollment_pb2.EnrollResponse:  # noqa: N802
        self._.received_tokens.append(request.token)
        left = self._.tokens.get(request.token)
        if left is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the enrollment token is unknown")
        if left == 0:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the enrollment token is spent")
        self._.tokens[request.token] -= 1
        device_id = f"{0xD0000000 + len(self._.enrolled):016x}"
        self._.enrolled[device_id] = request
        return enrollment_pb2.EnrollResponse(
            device_id=device_id,
            group="lab",
            certificate_pem=self._.ca.sign(request.csr_pem, common_name=device_id, lifetime=self._.lifetime),
            fleet_ca_pem=self._.ca.certificate_pem,
            device_port=self._.device_port,
            not_after=timestamp_from_instant(datetime.now(UTC) + self._.lifetime),
            trusted_root=self._.trust.roots[-1],
        )

    async def Renew(self, request: enrollment_pb2.RenewRequest, context: Any) -> enrollment_pb2.RenewResponse:  # noqa: N802
        device_id = _device_of(context)
        self._.renewals.append(device_id)
        return enrollment_pb2.RenewResponse(
            certificate_pem=self._.ca.sign(request.csr_pem, common_name=device_id, lifetime=self._.lifetime),
            fleet_ca_pem=self._.ca.certificate_pem,
            not_after=timestamp_from_instant(datetime.now(UTC) + self._.lifetime),
        )

    async def Session(  # noqa: N802
        self, requests: AsyncIterator[agent_pb2.SessionUp], context: Any
    ) -> AsyncIterator[agent_pb2.SessionDown]:
        device_id = _device_of(context)
        hello = wire.hello_from_message((await anext(requests)).hello)
        if self._.faults.refuse_sessions:
            self._.refused_hellos += 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, self._.faults.refuse_sessions)
        self._.hellos.append((device_id, hello))
        self._note_reported(device_id, hello.reported)
        queue: asyncio.Queue[agent_pb2.SessionDown | _Cut] = asyncio.Queue()
        self._._sessions[device_id] = queue
        reader = asyncio.create_task(self._read(device_id, requests), name="session's reader")
        try:
            welcome = agent_pb2.Welcome(device_id=device_id, group="lab", heartbeat_s=self._.heartbeat_s)
            welcome.at.GetCurrentTime()
            yield agent_pb2.SessionDown(welcome=welcome)
            yield agent_pb2.SessionDown(desired=wire.desired_to_message(self._.desired))
            while True:
                message = await queue.get()
                if isinstance(message, _Cut):
                    await context.abort(message.code, message.details)
                else:
                    yield message
        finally:
            reader.cancel()
            if self._._sessions.get(device_id) is queue:
                del self._._sessions[device_id]

    async def Fetch(self, request: agent_pb2.FetchRequest, context: Any) -> AsyncIterator[transfer_pb2.Chunk]:  # noqa: N802
        name = request.metadata or request.sha256
        if request.metadata:
            data = self._.trust.read(request.metadata)
        else:
            self._.fetches.append((request.sha256, request.offset))
            data = self._.artifacts.get(Digest(request.sha256))
        if data is None:
            what = request.metadata or f"artifact {request.sha256[:12]}"
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {what}")
            return
        if name in self._.faults.damaged:
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        if name in self._.faults.longer_by or name in self._.faults.drips:
            async for chunk in self._hostile_chunks(name, data, request.offset):
                yield chunk
            return
        async for chunk in self._chunks(data, request.offset, self._.faults.fetch_breaks_at, context):
            if self._.drips is not None:
                await self._.drips()
            yield chunk

    async def Report(self, request: agent_pb2.ReportRequest, context: Any) -> agent_pb2.ReportResponse:  # noqa: N802
        device_id = _device_of(context)
        self._.report_calls += 1
        for batch in request.batches:
            known = self._.batches.setdefault((device_id, batch.epoch, batch.sequence), batch.payload)
            assert known == batch.payload, "a sealed batch was sent again with another payload"
        if self._.faults.lost_acknowledgements > 0:
            self._.faults.lost_acknowledgements -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        return agent_pb2.ReportResponse(committed=[batch.sequence for batch in request.batches])

    async def Exchange(  # noqa: N802
        self, requests: AsyncIterator[agent_pb2.ExchangeUp], context: Any
    ) -> AsyncIterator[agent_pb2.ExchangeDown]:
        device_id = _device_of(context)
        first = await anext(requests)
        if first.WhichOneof("body") == "pull":
            data = self._.messages.get((first.pull.run_id, first.pull.message_id))
            if data is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"run {first.pull.run_id} has no such message")
                return
            async for chunk in self._chunks(data, first.pull.offset, self._.faults.pull_breaks_at, context):
                yield agent_pb2.ExchangeDown(chunk=chunk)
            return
        push = first.push
        key = (device_id, push.run_id, push.message_id)
        if (push.run_id, push.message_id) not in self._.messages:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"run {push.run_id} is over")
        received = bytearray(self._.replies.get(key, b""))
        yield agent_pb2.ExchangeDown(ready=transfer_pb2.UploadReady(offset=len(received)))
        async for up in requests:
            assert up.chunk.offset == len(received)
            received += up.chunk.data
            self._.replies[key] = bytes(received)
            if self._.faults.push_breaks_at and len(received) >= self._.faults.push_breaks_at[0]:
                self._.faults.push_breaks_at.pop(0)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the push was broken")
        if digest_of(bytes(received)) == push.header.sha256:
            confirmed = "0" * 64 if self._.faults.confirms_another_reply else push.header.sha256
            yield agent_pb2.ExchangeDown(done=transfer_pb2.UploadDone(sha256=confirmed))

    async def _chunks(
        self, data: bytes, offset: int, breaks_at: list[int], context: Any
    ) -> AsyncIterator[transfer_pb2.Chunk]:
        end = len(data)
        if breaks_at and breaks_at[0] >= offset:
            end = min(end, breaks_at.pop(0))
        for start in range(offset, end, CHUNK_BYTES):
            piece = data[start : min(start + CHUNK_BYTES, end)]
            yield transfer_pb2.Chunk(
                offset=start + self._.faults.skipped_bytes, data=piece, total_bytes=len(data) if start == offset else 0
            )
        if end < len(data):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was broken")

    async def _hostile_chunks(self, name: str, data: bytes, offset: int) -> AsyncIterator[transfer_pb2.Chunk]:
        more, pause_s = self._.faults.longer_by.get(name, 0), self._.faults.drips.get(name)
        end = len(data) + more if more >= 0 else None
        size = CHUNK_BYTES if pause_s is None else 1
        while end is None or offset < end:
            piece = data[offset : offset + size]
            piece = piece or b"x" * (size if end is None else min(size, end - offset))
            await asyncio.sleep(pause_s or 0)
            piece = b"" if self._.faults.sends_nothing else piece
            yield transfer_pb2.Chunk(offset=offset, data=piece)
            offset += len(piece)

    async def _read(self, device_id: str, requests: AsyncIterator[agent_pb2.SessionUp]) -> None:
        async for up in requests:
            match up.WhichOneof("body"):
                case "heartbeat":
                    self._.heartbeats.append((device_id, wire.heartbeat_from_message(up.heartbeat)))
                case "reported":
                    self._note_reported(device_id, wire.reported_from_message(up.reported))

    def _note_reported(self, device_id: str, reported: ReportedState) -> None:
        self._.reported[device_id] = reported
        self._.reported_history.append((device_id, reported))


def flavor_of(
    coordinator: SimulatedCoordinator, template: Flavor, *, data: bytes, golden: bytes | None = None
) -> Flavor:
    """`template` with these bytes, which the coordinator offers from now on."""
    from dataclasses import replace

    return replace(
        template,
        digest=coordinator.publish(data),
        total_bytes=len(data),
        golden_digest=coordinator.publish(golden) if golden is not None else None,
        golden_bytes=len(golden) if golden is not None else 0,
    )


def _device_of(context: Any) -> str:
    return str(context.auth_context()["x509_common_name"][0].decode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    # A minute of the past for clocks; a short life for tests of renewal begins now.
    now = datetime.now(UTC)
    begins = now - timedelta(minutes=1) if lifetime > timedelta(minutes=10) else now - timedelta(seconds=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + lifetime)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
