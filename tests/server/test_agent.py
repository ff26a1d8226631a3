"""What devices call, over a real listener with mutual TLS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol import wire
from edgeward.protocol.digests import digest_of
from edgeward.protocol.state import ModelState, ReportedModel, ReportedState
from edgeward.protocol.telemetry import CounterIncrements, TelemetryRecord, encode_batch
from edgeward.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    fleet_pb2,
    registry_pb2,
    registry_pb2_grpc,
    transfer_pb2,
)
from edgeward_coordinator.aggregation.journal import CallFolder, RunFolder, SentCall, SentMessage
from edgeward_coordinator.aggregation.records import RunSpec
from edgeward_server.transfer import CHUNK_BYTES
from tests.server.harness import Running, refusal
from tests.server.people import hello
from tests.server.streams import open_stream, read_to_the_end
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from tests.server.people import Member

DATA = bytes(range(256)) * 3000  # three chunks


class OpenSession:
    """A device's end of a session."""

    def __init__(self, stub: agent_pb2_grpc.AgentServiceAsyncStub) -> None:
        self.call = open_stream(stub.Session)

    async def say(self, **body: object) -> None:
        """One message up."""
        await self.call.write(agent_pb2.SessionUp(**body))  # type: ignore[arg-type]

    async def hear(self) -> agent_pb2.SessionDown:
        """The next message down."""
        down = await self.call.read()
        assert isinstance(down, agent_pb2.SessionDown)
        return down


async def open_session(server: Running, member: Member) -> OpenSession:
    """Hello, welcome, desired state."""
    session = OpenSession(await server.agent(member))
    await session.say(hello=wire.hello_to_message(hello()))
    assert (await session.hear()).WhichOneof("body") == "welcome"
    assert (await session.hear()).WhichOneof("body") == "desired"
    return session


async def device(server: Running, member: Member) -> fleet_pb2.Device:
    """As operators see it."""
    stub = await server.fleet()
    return (await stub.GetDevice(fleet_pb2.GetDeviceRequest(device=member.id))).device


async def state_becomes(server: Running, member: Member, state: str) -> None:
    """Wait for it, as an operator would: by watching."""
    stub = await server.fleet()
    watch = stub.WatchDevices(fleet_pb2.ListDevicesRequest(), timeout=30)
    async for listed in watch:
        if any(each.id == member.id and each.state == state for each in listed.devices):
            watch.cancel()
            return


async def test_session_begins_with_welcome_and_desired_state(server: Running) -> None:
    """A device is welcomed by name and group, told its heartbeat, and told what to run."""
    member = await server.enroll(group="lab")
    session = OpenSession(await server.agent(member))
    await session.say(hello=wire.hello_to_message(hello()))
    welcome = (await session.hear()).welcome
    assert (welcome.device_id, welcome.group, welcome.heartbeat_s) == (member.id, "lab", 1)
    assert (await session.hear()).desired.generation == 0
    seen = await device(server, member)
    assert (seen.state, seen.inventory.architecture) == ("online", "x86_64")


async def test_what_a_device_says_is_recorded(server: Running) -> None:
    """Heartbeats and the reported state reach the fleet's list."""
    member = await server.enroll()
    session = await open_session(server, member)
    reported = ReportedState(
        generation=0,
        models=(ReportedModel(model="m", version=3, flavor="f", state=ModelState.SERVING, wanted_version=3),),
    )
    await session.say(reported=wire.reported_to_message(reported))
    heartbeat = agent_pb2.Heartbeat(outbox_records=7, outbox_bytes=8, resident_bytes=9)
    heartbeat.at.GetCurrentTime()
    await session.say(heartbeat=heartbeat)
    while (await device(server, member)).heartbeat.outbox_records != 7:
        pass
    assert wire.reported_from_message((await device(server, member)).reported) == reported


async def test_change_of_group_pushes_a_newer_desired_state(server: Running) -> None:
    """A device that is online hears of a change without asking."""
    member = await server.enroll()
    session = await open_session(server, member)
    stub = await server.fleet()
    await stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(device=member.id, group="field"))
    assert (await session.hear()).desired.generation == 1


async def test_revoked_device_is_out_in_the_middle_of_everything(server: Running) -> None:
    """Session and downloads of a revoked device end at once, and it can begin nothing new."""
    member = await server.enroll()
    digest = await upload(server, DATA * 20)
    session = await open_session(server, member)
    stub = await server.agent(member)
    download = stub.Fetch(agent_pb2.FetchRequest(sha256=digest))
    await download.read()
    await (await server.fleet()).RevokeDevice(fleet_pb2.RevokeDeviceRequest(device=member.id, reason="lost"))

    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert await refusal(session.call.read()) == (unauthenticated, "this device was revoked")
    assert await refusal(read_to_the_end(download)) == (unauthenticated, "this device was revoked")
    code, details = await refusal(stub.Report(agent_pb2.ReportRequest()))
    assert code is unauthenticated
    assert "was revoked" in details
    assert (await device(server, member)).state == "revoked"


async def test_newer_session_of_a_device_ends_the_older(server: Running) -> None:
    """A device that came back over another network is not held up by its former session."""
    member = await server.enroll()
    older = await open_session(server, member)
    newer = await open_session(server, member)
    code, details = await refusal(older.call.read())
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "a newer session of this device took over")
    await newer.say(heartbeat=agent_pb2.Heartbeat())
    assert (await device(server, member)).state == "online"


async def test_device_that_leaves_is_offline(server: Running) -> None:
    """The end of the stream is the end of being online."""
    member = await server.enroll()
    session = await open_session(server, member)
    session.call.cancel()
    await state_becomes(server, member, "offline")


async def test_device_that_falls_silent_is_offline(server: Running) -> None:
    """A device whose heartbeats stay away is offline, and told to come back if it still hears."""
    member = await server.enroll()
    session = await open_session(server, member)
    await state_becomes(server, member, "offline")
    code, details = await refusal(session.call.read())
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "no heartbeat for more than 3 s")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([agent_pb2.SessionUp(heartbeat=agent_pb2.Heartbeat())], "the first message of a session is its hello"),
        ([agent_pb2.SessionUp()], "a message of a session that says nothing"),
        ([agent_pb2.SessionUp(hello=agent_pb2.Hello())] * 2, "a second hello in one session"),
    ],
    ids=["no hello", "empty", "two hellos"],
)
async def test_session_that_breaks_the_rules_ends_with_the_rule(
    server: Running, said: list[agent_pb2.SessionUp], problem: str
) -> None:
    """A session out of order is told which order there is."""
    call = open_stream((await server.agent(await server.enroll())).Session)
    for message in said:
        await call.write(message)
    assert await refusal(read_to_the_end(call)) == (grpc.StatusCode.INVALID_ARGUMENT, problem)


async def upload(server: Running, data: bytes) -> str:
    """An artifact, by the operator's way; its digest."""
    stub: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(
        await server.channel(token=server.admin)
    )
    digest = digest_of(data)
    header = transfer_pb2.UploadHeader(sha256=digest, total_bytes=len(data))
    call = open_stream(stub.UploadArtifact)
    await call.write(registry_pb2.UploadArtifactRequest(header=header))
    ready = await call.read()
    assert isinstance(ready, registry_pb2.UploadArtifactResponse)
    for offset in range(ready.ready.offset, len(data), CHUNK_BYTES):
        chunk = transfer_pb2.Chunk(offset=offset, data=data[offset : offset + CHUNK_BYTES])
        await call.write(registry_pb2.UploadArtifactRequest(chunk=chunk))
    done = await call.read()
    assert isinstance(done, registry_pb2.UploadArtifactResponse)
    assert done.done.sha256 == digest
    return digest


@pytest.mark.parametrize("offset", [0, CHUNK_BYTES + 1, len(DATA)])
async def test_artifact_is_fetched_from_any_offset(server: Running, offset: int) -> None:
    """A download goes on where it stopped, and its first chunk says how long the whole is."""
    digest = await upload(server, DATA)
    stub = await server.agent(await server.enroll())
    chunks = [chunk async for chunk in stub.Fetch(agent_pb2.FetchRequest(sha256=digest, offset=offset))]
    assert b"".join(chunk.data for chunk in chunks) == DATA[offset:]
    assert (chunks[0].offset, chunks[0].total_bytes) == (offset, len(DATA))


async def test_unknown_artifact_is_not_found(server: Running) -> None:
    """A digest that nobody uploaded, and one that is none, are told apart."""
    stub = await server.agent(await server.enroll())
    code, _ = await refusal(stub.Fetch(agent_pb2.FetchRequest(sha256="0" * 64)).read())
    assert code is grpc.StatusCode.NOT_FOUND
    code, _ = await refusal(stub.Fetch(agent_pb2.FetchRequest(sha256="../../etc/passwd")).read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_telemetry_counts_once_however_often_it_is_sent(server: Running) -> None:
    """A batch is acknowledged after it is stored, and again when it comes again."""
    member = await server.enroll()
    stub = await server.agent(member)
    record = TelemetryRecord(at=datetime.now(UTC), body=CounterIncrements(increments={"offline_s": 2.5}))
    batch = agent_pb2.TelemetryEnvelope(epoch="e", sequence=1, payload=encode_batch([record]))
    for _ in range(2):
        assert list((await stub.Report(agent_pb2.ReportRequest(batches=[batch]))).committed) == [1]
    operator = await server.fleet()
    found = await operator.GetDevice(fleet_pb2.GetDeviceRequest(device=member.id))
    assert dict(found.counters) == {"offline_s": 2.5}


RUN, MESSAGE = "a" * 16, b"weights" * 100_000
REPLY = b"update" * 200_000


def asked(server: Running, member: Member) -> tuple[str, CallFolder]:
    """A call of a run that asks this device one thing; the message's id and the call's files."""
    folder = RunFolder(server.config.layout.runs / RUN)
    folder.path.mkdir()
    spec = RunSpec(
        run_id=RUN,
        app="app",
        group="lab",
        serverapp="app:server",
        rounds=1,
        run_config={},
        seed=1,
        bundle_digest=digest_of(b"bundle"),
        bundle_bytes=6,
        model="m",
        min_devices=1,
        round_timeout_s=60,
    )
    folder.create(spec)
    call = folder.call(1)
    call.begin()
    call.write_message(member.id, MESSAGE)
    message = SentMessage(digest=digest_of(MESSAGE), total_bytes=len(MESSAGE), type="train")
    call.open(
        SentCall(
            call=1,
            phase="train",
            number=1,
            sent_at=0,
            deadline=2e9,
            messages={member.id: message},
            populations=[],
        )
    )
    return f"{RUN}-1-{member.id}", call


class Push:
    """A device that sends its reply."""

    def __init__(self, stub: agent_pb2_grpc.AgentServiceAsyncStub, message_id: str) -> None:
        self.call = open_stream(stub.Exchange)
        self._message_id = message_id

    async def begin(self) -> int:
        """The offset to go on from."""
        header = transfer_pb2.UploadHeader(sha256=digest_of(REPLY), total_bytes=len(REPLY))
        push = agent_pb2.PushReply(run_id=RUN, message_id=self._message_id, header=header)
        await self.call.write(agent_pb2.ExchangeUp(push=push))
        down = await self.call.read()
        assert isinstance(down, agent_pb2.ExchangeDown)
        return down.ready.offset

    async def send(self, offset: int, end: int) -> None:
        """A stretch of the reply."""
        for start in range(offset, end, CHUNK_BYTES):
            data = REPLY[start : min(start + CHUNK_BYTES, end)]
            await self.call.write(agent_pb2.ExchangeUp(chunk=transfer_pb2.Chunk(offset=start, data=data)))

    async def is_done(self) -> bool:
        """Whether the coordinator says that it has the reply."""
        down = await self.call.read()
        return isinstance(down, agent_pb2.ExchangeDown) and down.done.sha256 == digest_of(REPLY)


@pytest.mark.parametrize("offset", [0, 300_000, len(MESSAGE)])
async def test_message_is_pulled_from_any_offset(server: Running, offset: int) -> None:
    """A device gets what it is asked, from where it stopped."""
    member = await server.enroll()
    message_id, _ = asked(server, member)
    call = open_stream((await server.agent(member)).Exchange)
    pull = agent_pb2.PullMessage(run_id=RUN, message_id=message_id, offset=offset)
    await call.write(agent_pb2.ExchangeUp(pull=pull))
    await call.done_writing()
    data = b"".join([down.chunk.data async for down in call])
    assert data == MESSAGE[offset:]


async def test_reply_that_broke_off_goes_on_where_it_stopped(server: Running) -> None:
    """What has arrived of a reply is kept; the rest completes it, and it is durable before it is confirmed."""
    member = await server.enroll()
    message_id, folder = asked(server, member)
    stub = await server.agent(member)
    first = Push(stub, message_id)
    assert await first.begin() == 0
    await first.send(0, 2 * CHUNK_BYTES)
    await wait_until_async(lambda: sum(path.stat().st_size for path in folder.incoming.iterdir()) == 2 * CHUNK_BYTES)
    first.call.cancel()
    second = Push(stub, message_id)
    offset = await second.begin()
    assert offset == 2 * CHUNK_BYTES
    await second.send(offset, len(REPLY))
    assert await second.is_done()
    assert folder.reply_path(member.id).read_bytes() == REPLY


async def test_newer_attempt_does_not_wait_for_the_older(server: Running) -> None:
    """A reply whose former attempt hangs is sent by a new one; the former can write no more."""
    member = await server.enroll()
    message_id, folder = asked(server, member)
    stub = await server.agent(member)
    hanging = Push(stub, message_id)
    await hanging.begin()
    newer = Push(stub, message_id)
    offset = await newer.begin()
    ended = await refusal(hanging.call.read())
    await newer.send(offset, len(REPLY))
    assert await newer.is_done()
    assert ended == (grpc.StatusCode.UNAVAILABLE, "a newer attempt at the same took over")
    assert folder.reply_path(member.id).read_bytes() == REPLY


async def test_reply_that_was_confirmed_is_confirmed_again(server: Running) -> None:
    """A device that missed the confirmation has nothing to send twice."""
    member = await server.enroll()
    message_id, _ = asked(server, member)
    stub = await server.agent(member)
    for expected in (0, len(REPLY)):
        push = Push(stub, message_id)
        offset = await push.begin()
        assert offset == expected
        await push.send(offset, len(REPLY))
        assert await push.is_done()


async def test_message_of_another_device_is_not_found(server: Running) -> None:
    """A device sees only what it was asked itself."""
    member, other = await server.enroll(), await server.enroll(name="other")
    message_id, _ = asked(server, member)
    call = open_stream((await server.agent(other)).Exchange)
    pull = agent_pb2.PullMessage(run_id=RUN, message_id=message_id)
    await call.write(agent_pb2.ExchangeUp(pull=pull))
    code, _ = await refusal(call.read())
    assert code is grpc.StatusCode.NOT_FOUND


async def test_exchange_begins_with_what_it_is_about(server: Running) -> None:
    """A chunk out of nowhere is refused."""
    call = open_stream((await server.agent(await server.enroll())).Exchange)
    await call.write(agent_pb2.ExchangeUp(chunk=transfer_pb2.Chunk(data=b"x")))
    assert await refusal(call.read()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "an exchange begins with a pull or a push",
    )
