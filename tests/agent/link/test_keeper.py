"""A session that is kept open, through whatever the coordinator does."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol.state import DesiredState, Heartbeat, Hello, ReportedState, Welcome
from edgeward_agent.backoff import Backoff, BackoffLimits
from edgeward_agent.errors import Interrupted
from edgeward_agent.link import KeeperSettings, Link, Presence, SessionKeeper, Traffic
from tests.agent.enrolled import enroll_device
from tests.agent.link.test_link import HELLO
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward_agent.link import SessionEvent


class Side:
    """The rest of the agent, as a session sees it: says the same each time and notes what it hears."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.reports: asyncio.Queue[ReportedState] = asyncio.Queue()

    async def hello(self) -> Hello:
        """The same each time."""
        return HELLO

    async def heartbeat(self) -> Heartbeat:
        """Of now."""
        return Heartbeat(at=datetime.now(UTC), outbox_records=0, outbox_bytes=0, resident_bytes=0)

    async def next_report(self) -> ReportedState:
        """What the test puts in."""
        return await self.reports.get()

    def received(self, event: SessionEvent) -> None:
        """Note it."""
        self.events.append(event)


class BreakingSide(Side):
    """Its reports break at the moment at which they are asked to stop."""

    async def next_report(self) -> ReportedState:
        """Never one."""
        try:
            return await super().next_report()
        except asyncio.CancelledError:
            raise Interrupted("the stream broke") from None


class Kept:
    """A keeper with its surroundings."""

    def __init__(self, link: Link, *, heartbeat: timedelta | None, refused_retry: timedelta) -> None:
        self.link = link
        self.side = Side()
        self.presence = Presence(time.monotonic)
        self.backoff = Backoff(BackoffLimits(initial_s=0.01, maximum_s=0.1), rng=Random(1))
        self.keeper = SessionKeeper(
            link,
            self.side,
            self.presence,
            backoff=self.backoff,
            rng=Random(2),
            settings=KeeperSettings(heartbeat=heartbeat, refused_retry=refused_retry),
        )


@asynccontextmanager
async def kept(
    link: Link, *, heartbeat: timedelta | None = None, refused_retry: timedelta = timedelta(seconds=0.2)
) -> AsyncIterator[Kept]:
    surroundings = Kept(link, heartbeat=heartbeat, refused_retry=refused_retry)
    task = asyncio.create_task(surroundings.keeper.run())
    try:
        yield surroundings
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@pytest.fixture
async def coordinator() -> AsyncIterator[SimulatedCoordinator]:
    """Running; asks for a heartbeat each 50 ms."""
    async with SimulatedCoordinator(heartbeat_s=0.05) as running:
        yield running


@pytest.fixture
async def link(coordinator: SimulatedCoordinator, tmp_path: Path) -> Link:
    """Of an enrolled device."""
    return Link(await enroll_device(coordinator, tmp_path), traffic=Traffic())


async def test_heartbeats_come_at_the_coordinators_pace(coordinator: SimulatedCoordinator, link: Link) -> None:
    """And the events are handed on, the welcome first."""
    async with kept(link) as device:
        await wait_until_async(lambda: len(coordinator.heartbeats) >= 3)
        assert isinstance(device.side.events[0], Welcome)
        assert device.side.events[1] == DesiredState(generation=0, models=())
        assert device.presence.is_online


async def test_the_devices_own_pace_wins(coordinator: SimulatedCoordinator, link: Link) -> None:
    """A device on a metered line decides how often it speaks."""
    async with kept(link, heartbeat=timedelta(hours=1)) as device:
        device.side.reports.put_nowait(ReportedState(generation=9, models=()))
        await wait_until_async(lambda: any(state.generation == 9 for _, state in coordinator.reported_history))
        assert coordinator.heartbeats == []


async def test_a_restart_of_the_coordinator_is_survived(coordinator: SimulatedCoordinator, link: Link) -> None:
    """The device says hello again, without help, and hears the desired state again."""
    async with kept(link) as device:
        await wait_until_async(lambda: device.presence.is_online)
        await coordinator.stop()
        await wait_until_async(lambda: not device.presence.is_online)
        await coordinator.start()
        await wait_until_async(lambda: len(coordinator.hellos) >= 2)
        await wait_until_async(lambda: device.presence.is_online)


async def test_a_stop_while_the_stream_breaks_is_a_stop(coordinator: SimulatedCoordinator, link: Link) -> None:
    """The break must not hide the stop: the agent would go on as if nobody had asked it to end."""
    device = Kept(link, heartbeat=None, refused_retry=timedelta(seconds=0.2))
    device.keeper = SessionKeeper(link, BreakingSide(), device.presence, backoff=device.backoff, rng=Random(2))
    task = asyncio.create_task(device.keeper.run())
    await wait_until_async(lambda: len(coordinator.heartbeats) >= 1)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_a_coordinator_that_was_away_at_boot_is_found(coordinator: SimulatedCoordinator, link: Link) -> None:
    """However many attempts it took."""
    await coordinator.stop()
    async with kept(link) as device:
        await wait_until_async(lambda: device.backoff.failures >= 3)
        await coordinator.start()
        await wait_until_async(lambda: device.presence.is_online)


async def test_a_coordinator_that_drops_each_session_is_not_hammered(
    coordinator: SimulatedCoordinator, link: Link
) -> None:
    """A welcome alone does not begin the backoff anew."""
    async with kept(link) as device:
        for number in range(1, 4):
            await wait_until_async(lambda: coordinator.online and len(coordinator.hellos) == number)  # noqa: B023
            coordinator.cut_sessions()
            await wait_until_async(lambda: device.backoff.failures == number)  # noqa: B023


async def test_a_failure_is_told_once(
    coordinator: SimulatedCoordinator, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each attempt; and with its cause, not with gRPC's word for it."""
    await coordinator.stop()
    with caplog.at_level(logging.INFO, logger="edgeward_agent.link"):
        async with kept(link) as device:
            await wait_until_async(lambda: device.backoff.failures >= 4)
    complaints = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(complaints) == 1
    assert f"nothing listens at {link.identity.address}" in complaints[0]


async def test_another_failure_is_told_again(
    coordinator: SimulatedCoordinator, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """From "nothing listens" to "refused" is news."""
    await coordinator.stop()
    with caplog.at_level(logging.WARNING, logger="edgeward_agent.link"):
        async with kept(link):
            await wait_until_async(lambda: "nothing listens" in caplog.text)
            coordinator.faults.refuse_sessions = "this device is revoked"
            await coordinator.start()
            await wait_until_async(lambda: "this device is revoked" in caplog.text)


async def test_a_refused_device_asks_again_at_a_slower_pace(coordinator: SimulatedCoordinator, link: Link) -> None:
    """It comes back when an operator has set it right, and backoff between broken connections is not what paces it."""
    coordinator.faults.refuse_sessions = "this device is unknown"
    async with kept(link) as device:
        await wait_until_async(lambda: coordinator.refused_hellos)
        assert device.backoff.failures == 0
        coordinator.faults.refuse_sessions = ""
        await wait_until_async(lambda: device.presence.is_online)


async def test_a_revocation_in_mid_session_takes_the_device_offline(
    coordinator: SimulatedCoordinator, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason in the log, though heartbeats are being written all the time."""
    async with kept(link, refused_retry=timedelta(hours=1)) as device:
        await wait_until_async(lambda: len(coordinator.heartbeats) >= 2)
        coordinator.cut_sessions(grpc.StatusCode.UNAUTHENTICATED, "this device is revoked")
        await wait_until_async(lambda: not device.presence.is_online)
        await wait_until_async(lambda: "this device is revoked" in caplog.text)


async def test_a_server_of_another_fleet_in_the_coordinators_place_is_refused(
    link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """No hello reaches it."""
    async with SimulatedCoordinator(ca=SimulatedCA()) as impostor:
        await link.adopt(replace(link.identity, address=impostor.device_address))
        async with kept(link):
            await wait_until_async(lambda: "is not this fleet's coordinator" in caplog.text)
        assert impostor.hellos == []


async def test_a_session_that_was_adopted_away_is_opened_again(coordinator: SimulatedCoordinator, link: Link) -> None:
    """As after a renewal."""
    async with kept(link) as device:
        await wait_until_async(lambda: device.presence.is_online)
        await link.adopt(link.identity)
        await wait_until_async(lambda: len(coordinator.hellos) == 2)
