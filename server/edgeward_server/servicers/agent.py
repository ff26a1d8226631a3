"""What devices call. A device is who its certificate says; nothing in a message can make it another."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward.protocol.state import Heartbeat, Hello, ReportedState, Welcome
from edgeward.v1 import agent_pb2, agent_pb2_grpc, transfer_pb2
from edgeward_coordinator.errors import InvalidArgument, NotFound, Unavailable
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.transfer import NewestAttempt, pieces_of, read_pieces, receive_chunks, send_chunks
from edgeward_server.wire.agent import envelopes_from_message, session_down_to_message, session_up_from_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from datetime import datetime
    from typing import Any

    import grpc

    from edgeward_coordinator.aggregation import Runs
    from edgeward_coordinator.fleet import DeviceIdentity, Fleet
    from edgeward_coordinator.monitoring import Telemetry
    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.trust import Trust
    from edgeward_server.session import DeviceSession
    from edgeward_server.sessions import SessionHub
    from edgeward_server.wire.agent import SessionUp

    Context = grpc.aio.ServicerContext[Any, Any]

_HELLO_WITHIN_S = 20.0


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Sessions, artifacts, telemetry, federated messages."""

    def __init__(
        self,
        *,
        hub: SessionHub,
        fleet: Fleet,
        registry: Registry,
        trust: Trust,
        telemetry: Telemetry,
        runs: Runs,
        clock: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._fleet = fleet
        self._registry = registry
        self._trust = trust
        self._telemetry = telemetry
        self._runs = runs
        self._clock = clock
        self._attempts = NewestAttempt()

    async def Session(
        self, request_iterator: AsyncIterator[agent_pb2.SessionUp], context: Context
    ) -> AsyncIterator[agent_pb2.SessionDown]:
        """One long-lived stream a device."""
        device = current_caller().require_device()
        hello = await _hello(request_iterator)
        session = self._hub.open(device, can_train=hello.inventory.can_train)
        try:
            await self._begin(session, device, hello)
            async with self._listening(session, request_iterator), aclosing(session.outgoing()) as outgoing:
                async for down in outgoing:
                    yield session_down_to_message(down)
        finally:
            self._hub.close(session)

    async def Fetch(self, request: agent_pb2.FetchRequest, context: Context) -> AsyncIterator[transfer_pb2.Chunk]:
        """The bytes of an artifact, or of a file of signed metadata, from an offset."""
        if request.metadata:
            content = await in_thread(self._trust.metadata, request.metadata)
            total_bytes, pieces = len(content), pieces_of(content, offset=request.offset)
        else:
            digest = parse_digest(request.sha256)
            total_bytes = await in_thread(self._registry.artifact_bytes, digest)
            pieces = await in_thread(self._registry.open_artifact, digest, request.offset)
        async with aclosing(send_chunks(pieces, offset=request.offset, total_bytes=total_bytes)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def Report(self, request: agent_pb2.ReportRequest, context: Context) -> agent_pb2.ReportResponse:
        """Telemetry, acknowledged after commit."""
        device = current_caller().require_device()
        committed = await in_thread(self._telemetry.store_batches, device.id, envelopes_from_message(request))
        self._hub.tell_news()
        return agent_pb2.ReportResponse(committed=committed)

    async def Exchange(
        self, request_iterator: AsyncIterator[agent_pb2.ExchangeUp], context: Context
    ) -> AsyncIterator[agent_pb2.ExchangeDown]:
        """One federated message, pulled or its reply pushed."""
        device = current_caller().require_device()
        first = await anext(request_iterator, None)
        if first is None:
            return
        match first.WhichOneof("body"):
            case "pull":
                answers = self._pull(device, first.pull)
            case "push":
                answers = self._push(device, first.push, request_iterator)
            case _:
                raise WireError("an exchange begins with a pull or a push")
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def _begin(self, session: DeviceSession, device: DeviceIdentity, hello: Hello) -> None:
        """The first words of both sides, then all that waits for the device."""
        session.send(
            Welcome(device_id=device.id, group=device.group, heartbeat_s=self._hub.heartbeat_s, at=self._clock())
        )
        await in_thread(self._fleet.record_hello, device.id, hello)
        self._hub.tell_news()
        await self._hub.push_desired(session)
        for invitation in await in_thread(self._runs.pending_invitations, device.id):
            session.send(invitation)

    @asynccontextmanager
    async def _listening(self, session: DeviceSession, ups: AsyncIterator[agent_pb2.SessionUp]) -> AsyncIterator[None]:
        task = asyncio.create_task(self._listen(session, ups), name=f"session of {session.device_id}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self, session: DeviceSession, ups: AsyncIterator[agent_pb2.SessionUp]) -> None:
        try:
            async for up in ups:
                await self._hear(session, session_up_from_message(up))
            session.end()
        except Exception as error:  # noqa: BLE001 - the outermost frame of a task; the stream ends with the error
            session.end(error)

    async def _hear(self, session: DeviceSession, up: SessionUp) -> None:
        self._hub.heard(session)
        match up:
            case Heartbeat():
                # One that can't be recorded is no reason to part; the loops have logged that the database is away.
                with suppress(Unavailable):
                    await in_thread(self._fleet.record_heartbeat, session.device_id, up)
            case ReportedState():
                # This one matters: the session ends, and the next one's hello says it again.
                await in_thread(self._fleet.record_reported, session.device_id, up)
                self._hub.tell_news()
            case Hello():
                raise WireError("a second hello in one session")

    async def _pull(
        self, device: DeviceIdentity, pull: agent_pb2.PullMessage
    ) -> AsyncGenerator[agent_pb2.ExchangeDown, None]:
        path, total_bytes = await in_thread(self._runs.open_message, device.id, pull.run_id, pull.message_id)
        pieces = read_pieces(path, offset=pull.offset)
        try:
            async with aclosing(send_chunks(pieces, offset=pull.offset, total_bytes=total_bytes)) as chunks:
                async for chunk in chunks:
                    yield agent_pb2.ExchangeDown(chunk=chunk)
        except FileNotFoundError as error:
            raise NotFound(f"the message {pull.message_id[:80]!r} is over: the run has gone on meanwhile") from error

    async def _push(
        self, device: DeviceIdentity, push: agent_pb2.PushReply, ups: AsyncIterator[agent_pb2.ExchangeUp]
    ) -> AsyncGenerator[agent_pb2.ExchangeDown, None]:
        asked = (device.id, push.run_id, push.message_id)
        digest = parse_digest(push.header.sha256)
        async with self._attempts.at("/".join(asked)):
            partial = await in_thread(self._runs.begin_reply, *asked, digest, push.header.total_bytes)
            offset = await in_thread(lambda: partial.offset)
            yield agent_pb2.ExchangeDown(ready=transfer_pb2.UploadReady(offset=offset))
            await receive_chunks(_chunks(ups), partial)
            await in_thread(self._runs.finish_reply, *asked)
        yield agent_pb2.ExchangeDown(done=transfer_pb2.UploadDone(sha256=digest))


async def _hello(ups: AsyncIterator[agent_pb2.SessionUp]) -> Hello:
    try:
        async with asyncio.timeout(_HELLO_WITHIN_S):
            first = await anext(ups, None)
    except TimeoutError as error:
        raise InvalidArgument(f"no hello within {_HELLO_WITHIN_S:g} s") from error
    up = None if first is None else session_up_from_message(first)
    if not isinstance(up, Hello):
        raise WireError("the first message of a session is its hello")
    return up


async def _chunks(ups: AsyncIterator[agent_pb2.ExchangeUp]) -> AsyncIterator[transfer_pb2.Chunk]:
    async for up in ups:
        if up.WhichOneof("body") != "chunk":
            raise WireError("chunks follow the header of a reply, and nothing else")
        yield up.chunk
