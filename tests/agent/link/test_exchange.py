"""Federated messages over the link against a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of_file
from edgeward_agent.learning import ExchangeInterrupted, ExchangeRefused
from edgeward_agent.link import GrpcExchange, Link, Traffic
from tests.agent.enrolled import enroll_device
from tests.agent.link.test_link import HELLO, collect
from tests.agent.simulator import CHUNK_BYTES, SimulatedCoordinator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DATA = bytes(range(256)) * 3000  # three chunks up


@pytest.fixture
async def coordinator() -> AsyncIterator[SimulatedCoordinator]:
    """With one message of one run."""
    async with SimulatedCoordinator() as running:
        running.messages["r1", "m1"] = DATA
        yield running


@pytest.fixture
async def link(coordinator: SimulatedCoordinator, tmp_path: Path) -> AsyncIterator[Link]:
    """Of an enrolled device with an open session."""
    connected = Link(await enroll_device(coordinator, tmp_path), traffic=Traffic())
    async with connected.session(HELLO):
        yield connected


@pytest.fixture
def reply(tmp_path: Path) -> Path:
    """A reply on disk."""
    path = tmp_path / "reply"
    path.write_bytes(DATA)
    return path


async def push(link: Link, path: Path, *, message_id: str = "m1") -> None:
    digest, total_bytes = await asyncio.to_thread(lambda: (digest_of_file(path), path.stat().st_size))
    await GrpcExchange(link).push("r1", message_id, path, digest, total_bytes)


async def test_a_message_is_pulled_whole(link: Link) -> None:
    """And counted."""
    assert await collect(GrpcExchange(link).pull("r1", "m1", 0)) == DATA
    assert link.traffic.take() == (len(DATA), 0)


async def test_a_pull_that_breaks_goes_on_from_where_it_stopped(coordinator: SimulatedCoordinator, link: Link) -> None:
    """From any byte."""
    broken_at = CHUNK_BYTES + 7
    coordinator.faults.pull_breaks_at = [broken_at]
    received = bytearray()
    with pytest.raises(ExchangeInterrupted):
        await collect(GrpcExchange(link).pull("r1", "m1", 0), into=received)
    assert bytes(received) == DATA[:broken_at]
    assert await collect(GrpcExchange(link).pull("r1", "m1", broken_at)) == DATA[broken_at:]


async def test_a_gap_in_a_message_is_noticed(coordinator: SimulatedCoordinator, link: Link) -> None:
    """Before a byte of it is taken for another."""
    coordinator.faults.skipped_bytes = 3
    with pytest.raises(ExchangeInterrupted, match="sent byte 3 where byte 0 follows"):
        await collect(GrpcExchange(link).pull("r1", "m1", 0))


async def test_a_message_that_is_over_is_refused(link: Link) -> None:
    """The worker need not wait for it."""
    with pytest.raises(ExchangeRefused, match="has no such message"):
        await collect(GrpcExchange(link).pull("r1", "m2", 0))


async def test_a_reply_is_pushed_whole(coordinator: SimulatedCoordinator, link: Link, reply: Path) -> None:
    """And is counted."""
    await push(link, reply)
    assert coordinator.replies[link.identity.device_id, "r1", "m1"] == DATA
    assert link.traffic.take() == (0, len(DATA))


async def test_an_empty_reply_is_pushed_too(coordinator: SimulatedCoordinator, link: Link, tmp_path: Path) -> None:
    """No chunk is needed for it."""
    path = tmp_path / "empty"
    path.touch()
    await push(link, path)


async def test_a_push_that_breaks_goes_on_from_what_the_coordinator_has(
    coordinator: SimulatedCoordinator, link: Link, reply: Path
) -> None:
    """The second attempt sends the rest only."""
    coordinator.faults.push_breaks_at = [1]
    with pytest.raises(ExchangeInterrupted):
        await push(link, reply)
    have = len(coordinator.replies[link.identity.device_id, "r1", "m1"])
    assert 0 < have < len(DATA)
    link.traffic.take()
    await push(link, reply)
    assert coordinator.replies[link.identity.device_id, "r1", "m1"] == DATA
    assert link.traffic.take() == (0, len(DATA) - have)


async def test_a_confirmation_of_something_else_is_none(
    coordinator: SimulatedCoordinator, link: Link, reply: Path
) -> None:
    """The reply is kept, to be pushed again."""
    coordinator.faults.confirms_another_reply = True
    with pytest.raises(ExchangeInterrupted, match="confirmed '000000000000'"):
        await push(link, reply)


async def test_a_reply_to_a_run_that_is_over_is_refused(link: Link, reply: Path) -> None:
    """With the coordinator's words, though it ends the call while chunks are under way."""
    with pytest.raises(ExchangeRefused, match="run r1 is over"):
        await push(link, reply, message_id="m9")


async def test_without_a_session_both_are_interrupted(
    coordinator: SimulatedCoordinator, tmp_path: Path, reply: Path
) -> None:
    """At once."""
    link = Link(await enroll_device(coordinator, tmp_path), traffic=Traffic())
    with pytest.raises(ExchangeInterrupted):
        await push(link, reply)
    with pytest.raises(ExchangeInterrupted):
        await collect(GrpcExchange(link).pull("r1", "m1", 0))
