"""The link against a real server: session, fetch, report, renewal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol.digests import Digest
from edgeward.protocol.state import (
    DesiredState,
    Heartbeat,
    Hello,
    Inventory,
    ModelState,
    ReportedModel,
    ReportedState,
    RunEnded,
    RunInvitation,
    Welcome,
)
from edgeward_agent.artifacts import BadDelivery, FetchInterrupted
from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.identity import IdentityStore
from edgeward_agent.link import Link, LinkSettings, Traffic
from edgeward_agent.trust import Untrusted
from tests.agent.enrolled import enroll_device
from tests.agent.simulator import CHUNK_BYTES, SimulatedCA, SimulatedCoordinator
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from edgeward_agent.link import Session, SessionEvent

HELLO = Hello(
    inventory=Inventory(
        agent_version="0.1",
        architecture="x86_64",
        system="Linux",
        python="3.11",
        cores=2,
        memory_bytes=1 << 30,
        runtimes=(),
        can_train=False,
    ),
    labels={"site": "hall-3"},
    reported=ReportedState(generation=0, models=()),
    outbox_records=3,
)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What the link needs of a sealed batch."""

    epoch: str
    sequence: int
    payload: bytes


@pytest.fixture
async def coordinator() -> AsyncIterator[SimulatedCoordinator]:
    """Running."""
    async with SimulatedCoordinator() as running:
        yield running


@pytest.fixture
async def link(coordinator: SimulatedCoordinator, tmp_path: Path) -> Link:
    """Of an enrolled device; not connected."""
    identity = await enroll_device(coordinator, tmp_path)
    settings = LinkSettings(call_timeout=timedelta(seconds=10), stall_timeout=timedelta(seconds=10))
    return Link(identity, traffic=Traffic(), settings=settings)


async def next_event(session: Session) -> SessionEvent:
    async with asyncio.timeout(20):
        return await anext(aiter(session.events()))


async def collect(pieces: AsyncIterator[bytes], *, into: bytearray | None = None) -> bytes:
    received = bytearray() if into is None else into
    async for piece in pieces:
        received += piece
    return bytes(received)


async def test_a_session_begins_with_hello_welcome_and_the_desired_state(
    coordinator: SimulatedCoordinator, link: Link
) -> None:
    """The device is who its certificate says."""
    coordinator.deploy()
    async with link.session(HELLO) as session:
        assert isinstance(session.welcome, Welcome)
        assert session.welcome.device_id == link.identity.device_id
        assert await next_event(session) == DesiredState(generation=1, models=())
        assert coordinator.hellos == [(link.identity.device_id, HELLO)]


async def test_the_device_speaks_and_is_heard(coordinator: SimulatedCoordinator, link: Link) -> None:
    """Heartbeats and reported state arrive as they were sent."""
    heartbeat = Heartbeat(at=datetime(2026, 1, 1, tzinfo=UTC), outbox_records=1, outbox_bytes=2, resident_bytes=3)
    reported = ReportedState(
        generation=4,
        models=(ReportedModel(model="a", version=1, flavor="f", state=ModelState.SERVING, wanted_version=1),),
    )
    async with link.session(HELLO) as session:
        await session.send(heartbeat)
        await session.send(reported)
        await wait_until_async(lambda: coordinator.reported.get(link.identity.device_id) == reported)
        assert coordinator.heartbeats == [(link.identity.device_id, heartbeat)]


async def test_the_coordinator_speaks_and_is_heard(coordinator: SimulatedCoordinator, link: Link) -> None:
    """A desired state, an invitation and the end of a run come as events, in order."""
    invitation = RunInvitation(
        run_id="r1",
        message_id="m1",
        message_digest=Digest("0" * 64),
        message_bytes=1,
        bundle_digest=Digest("1" * 64),
        bundle_bytes=2,
        deadline=datetime(2026, 1, 1, tzinfo=UTC),
        run_config={"lr": 0.1},
    )
    async with link.session(HELLO) as session:
        await next_event(session)
        desired = coordinator.deploy()
        coordinator.invite(invitation)
        coordinator.end_run("r1")
        assert [await next_event(session) for _ in range(3)] == [desired, invitation, RunEnded(run_id="r1")]


async def test_a_refused_hello_is_told_with_the_coordinators_words(
    coordinator: SimulatedCoordinator, link: Link
) -> None:
    """Revoked is not a broken network."""
    coordinator.faults.refuse_sessions = "device d0000000 is revoked"
    with pytest.raises(Refused, match="is revoked"):
        async with link.session(HELLO):
            pass


async def test_a_device_that_is_revoked_in_mid_session_is_told(coordinator: SimulatedCoordinator, link: Link) -> None:
    """By the reader of the stream, and by a writer that comes after it."""
    async with link.session(HELLO) as session:
        await next_event(session)
        coordinator.cut_sessions(grpc.StatusCode.UNAUTHENTICATED, "device is revoked")
        with pytest.raises(Refused, match="device is revoked"):
            await next_event(session)
        with pytest.raises(Refused, match="device is revoked"):
            await session.send(ReportedState(generation=0, models=()))


async def test_a_coordinator_that_dies_interrupts_the_session(coordinator: SimulatedCoordinator, link: Link) -> None:
    """Which is a matter of time."""
    async with link.session(HELLO) as session:
        await next_event(session)
        await coordinator.stop()
        with pytest.raises(Interrupted):
            await next_event(session)


async def test_a_coordinator_that_is_away_is_an_interruption(coordinator: SimulatedCoordinator, link: Link) -> None:
    """At once, without waiting for gRPC's own attempts."""
    await coordinator.stop()
    with pytest.raises(Interrupted):
        async with link.session(HELLO):
            pass


async def test_a_certificate_of_another_fleet_is_not_let_in(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """The listener for devices hangs up on it."""
    async with SimulatedCoordinator(ca=SimulatedCA()) as other:
        stranger = await enroll_device(other, tmp_path)
    from dataclasses import replace

    forged = replace(stranger, address=coordinator.device_address, fleet_ca_pem=coordinator.ca.certificate_pem)
    with pytest.raises(Interrupted):
        async with Link(forged, traffic=Traffic()).session(HELLO):
            pass
    assert coordinator.hellos == []


async def test_an_artifact_comes_whole_and_is_counted(coordinator: SimulatedCoordinator, link: Link) -> None:
    """In pieces whose sum is the artifact."""
    data = bytes(range(256)) * 300
    digest = coordinator.publish(data)
    async with link.session(HELLO):
        assert await collect(link.fetch(digest, 0)) == data
    assert link.traffic.take() == (len(data), 0)


async def test_a_fetch_that_breaks_goes_on_from_where_it_stopped(coordinator: SimulatedCoordinator, link: Link) -> None:
    """The second attempt asks for the rest only."""
    data = bytes(range(256)) * 300
    digest = coordinator.publish(data)
    broken_at = CHUNK_BYTES + 100
    coordinator.faults.fetch_breaks_at = [broken_at]
    received = bytearray()
    async with link.session(HELLO):
        with pytest.raises(FetchInterrupted):
            await collect(link.fetch(digest, 0), into=received)
        assert bytes(received) == data[:broken_at]
        received += await collect(link.fetch(digest, len(received)))
    assert bytes(received) == data
    assert coordinator.fetches == [(digest, 0), (digest, broken_at)]


async def test_a_gap_in_an_artifact_is_noticed(coordinator: SimulatedCoordinator, link: Link) -> None:
    """Before a byte of it is taken for another."""
    digest = coordinator.publish(b"x" * 100)
    coordinator.faults.skipped_bytes = 3
    async with link.session(HELLO):
        with pytest.raises(FetchInterrupted, match="sent byte 3 where byte 0 follows"):
            await collect(link.fetch(digest, 0))
    assert link.traffic.take() == (0, 0)


async def test_an_artifact_that_is_not_there_may_be_there_another_time(link: Link) -> None:
    """That the coordinator does not give it says nothing of the model, so it is a matter of time."""
    async with link.session(HELLO):
        with pytest.raises(BadDelivery, match="there is no artifact 000000000000"):
            await collect(link.fetch(Digest("0" * 64), 0))


async def test_a_fetch_that_stalls_is_interrupted(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """A server that sends nothing more does not hold a device for ever."""
    held = asyncio.Event()
    coordinator.drips = held.wait
    identity = await enroll_device(coordinator, tmp_path)
    link = Link(identity, traffic=Traffic(), settings=LinkSettings(stall_timeout=timedelta(seconds=0.2)))
    digest = coordinator.publish(b"x")
    async with link.session(HELLO):
        with pytest.raises(FetchInterrupted, match="did not answer in time"):
            await collect(link.fetch(digest, 0))
    held.set()


async def test_an_artifact_that_only_drips_is_interrupted(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """A byte now and then never stalls, and would hold an installation for years."""
    digest = coordinator.publish(b"x" * 100_000)
    coordinator.faults.drips[digest] = 0.01
    identity = await enroll_device(coordinator, tmp_path)
    settings = LinkSettings(least_bytes_per_s=10_000, pace_window=timedelta(seconds=0.2))
    link = Link(identity, traffic=Traffic(), settings=settings)
    received = bytearray()
    async with link.session(HELLO):
        with pytest.raises(FetchInterrupted, match=r"only drips: .* bytes/s"):
            await collect(link.fetch(digest, 0), into=received)
    assert 0 < len(received) < 100_000


async def test_a_stream_of_nothing_ends(coordinator: SimulatedCoordinator, link: Link) -> None:
    """Empty pieces without end keep nobody busy."""
    digest = coordinator.publish(b"")
    coordinator.faults.longer_by[digest] = -1
    coordinator.faults.sends_nothing = True
    async with link.session(HELLO):
        assert await collect(link.fetch(digest, 0)) == b""


async def test_a_file_of_metadata_comes_whole(coordinator: SimulatedCoordinator, link: Link) -> None:
    """As the repository has it, however many pieces it takes."""
    coordinator.trust.files["long.json"] = content = bytes(range(256)) * 300
    async with link.session(HELLO):
        assert await link.fetch_metadata("long.json", len(content)) == content
        assert await link.fetch_metadata("timestamp.json", 1 << 14) == coordinator.trust.files["timestamp.json"]


async def test_a_file_of_metadata_that_is_not_there_is_none(link: Link) -> None:
    """Which is how a device learns that its root is the newest."""
    async with link.session(HELLO):
        assert await link.fetch_metadata("2.root.json", 1 << 14) is None


async def test_endless_metadata_is_cut_off(coordinator: SimulatedCoordinator, link: Link) -> None:
    """At its bound."""
    coordinator.faults.longer_by["timestamp.json"] = -1
    async with link.session(HELLO):
        with pytest.raises(Untrusted, match=r"timestamp.json is longer than 16384 bytes"):
            await link.fetch_metadata("timestamp.json", 1 << 14)


async def test_metadata_that_takes_too_long_is_interrupted(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """However steadily it comes."""
    coordinator.faults.longer_by["timestamp.json"] = -1
    coordinator.faults.drips["timestamp.json"] = 0.01
    identity = await enroll_device(coordinator, tmp_path)
    link = Link(identity, traffic=Traffic(), settings=LinkSettings(metadata_timeout=timedelta(seconds=0.3)))
    async with link.session(HELLO):
        with pytest.raises(Interrupted, match="did not answer in time"):
            await link.fetch_metadata("timestamp.json", 1 << 14)


@pytest.mark.parametrize("call", ["fetch", "fetch_metadata", "report", "renew"])
async def test_without_a_session_every_call_is_interrupted_at_once(link: Link, call: str) -> None:
    """Only the session decides when a device knocks."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "fetch": lambda: collect(link.fetch(Digest("0" * 64), 0)),
        "fetch_metadata": lambda: link.fetch_metadata("timestamp.json", 1),
        "report": lambda: link.report([]),
        "renew": lambda: link.renew(b"csr"),
    }
    with pytest.raises(Interrupted, match="there is no connection"):
        await calls[call]()
    async with link.session(HELLO):
        pass
    with pytest.raises(Interrupted, match="there is no connection"):
        await calls[call]()


async def test_reports_are_acknowledged_by_sequence(coordinator: SimulatedCoordinator, link: Link) -> None:
    """And their payload is counted."""
    batches = [Batch(epoch="e", sequence=number, payload=b"p" * number) for number in (1, 2)]
    async with link.session(HELLO):
        assert await link.report(batches) == [1, 2]  # type: ignore[arg-type]
    assert sorted(sequence for _, _, sequence in coordinator.batches) == [1, 2]
    assert link.traffic.take() == (0, 3)


async def test_a_lost_acknowledgement_is_an_interruption_and_the_repetition_harmless(
    coordinator: SimulatedCoordinator, link: Link
) -> None:
    """The coordinator has the batch once."""
    coordinator.faults.lost_acknowledgements = 1
    batches = [Batch(epoch="e", sequence=1, payload=b"p")]
    async with link.session(HELLO):
        with pytest.raises(Interrupted):
            await link.report(batches)  # type: ignore[arg-type]
        assert await link.report(batches) == [1]  # type: ignore[arg-type]
    assert len(coordinator.batches) == 1


async def test_a_renewed_certificate_is_shown_in_the_next_session(
    coordinator: SimulatedCoordinator, link: Link, tmp_path: Path
) -> None:
    """The old session ends in peace, the next is opened with the new key."""
    store = IdentityStore(tmp_path / "identity")
    async with link.session(HELLO) as session:
        await next_event(session)
        credential = store.begin(name="pump-7")
        renewed = store.complete_renewal(credential, await link.renew(credential.csr_pem))
        await link.adopt(renewed)
        assert [event async for event in session.events()] == []
    async with link.session(HELLO) as session:
        assert session.welcome.device_id == renewed.device_id
    assert link.identity.key_pem == credential.key_pem
    assert coordinator.renewals == [renewed.device_id]
