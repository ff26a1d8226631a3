"""The hub: who is online, what goes down, who is cut off."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.state import DesiredState, RunEnded, RunInvitation
from edgeward_coordinator.errors import Unauthenticated, Unavailable
from edgeward_coordinator.fleet import DeviceIdentity
from tests.server.outage import file_away
from tests.server.people import enroll_in
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.fleet import Fleet
    from edgeward_server.running import RunningCalls
    from edgeward_server.session import DeviceSession, SessionDown
    from edgeward_server.sessions import SessionHub
    from tests.conftest import SetClock

A = DeviceIdentity(id="a" * 16, group="lab")
B = DeviceIdentity(id="b" * 16, group="field")


def member_of(fleet: Fleet, *, group: str = "lab", name: str = "pi") -> DeviceIdentity:
    """An enrolled device."""
    return DeviceIdentity(id=enroll_in(fleet, group=group, name=name).id, group=group)


def waiting_in(session: DeviceSession) -> list[SessionDown]:
    """What would go down now."""
    return list(session._waiting)


async def drained(session: DeviceSession) -> list[SessionDown]:
    """All that goes down until the session ends."""
    return [down async for down in session.outgoing()]


def invitation(clock: SetClock) -> RunInvitation:
    """To some run."""
    return RunInvitation(
        run_id="r1",
        message_id="m1",
        message_digest=digest_of(b"message"),
        message_bytes=7,
        bundle_digest=digest_of(b"bundle"),
        bundle_bytes=6,
        deadline=clock(),
    )


async def test_online_are_those_with_a_session(hub: SessionHub) -> None:
    """A device is online from open to close, in its own group."""
    first, second = hub.open(A), hub.open(B)
    assert hub.online() == {A.id, B.id}
    assert hub.online("lab") == {A.id}
    hub.close(first)
    hub.close(first)
    assert hub.online() == {B.id}
    hub.close(second)


async def test_only_devices_that_can_train_are_trainable(hub: SessionHub) -> None:
    """A device without the training packages would hold every round until its deadline."""
    hub.open(A)
    hub.open(B, can_train=True)
    assert hub.trainable(A.group) | hub.trainable(B.group) == {B.id}


async def test_newer_session_replaces_the_older(hub: SessionHub) -> None:
    """The older session of a device ends with the reason; the device stays online through the newer."""
    older = hub.open(A)
    newer = hub.open(A)
    with pytest.raises(Unavailable, match="newer session"):
        await drained(older)
    hub.close(older)
    assert hub.online() == {A.id}
    assert newer.is_open


async def test_messages_go_down_in_order_and_only_to_those_online(hub: SessionHub, clock: SetClock) -> None:
    """Invitations and ends of runs reach the devices that are online; for others nothing is kept."""
    session = hub.open(A)
    hub.invite(A.id, invitation(clock))
    hub.invite(B.id, invitation(clock))
    hub.end_run([A.id, B.id], "r1")
    session_of_b = hub.open(B)
    assert waiting_in(session) == [invitation(clock), RunEnded(run_id="r1")]
    assert waiting_in(session_of_b) == []
    assert hub.send(B.id, RunEnded(run_id="r2"))
    assert not hub.send("c" * 16, RunEnded(run_id="r2"))


async def test_session_that_reads_nothing_is_ended(hub: SessionHub) -> None:
    """What waits for a device is bounded; past the bound its session ends and it comes back to a fresh one."""
    session = hub.open(A)
    for _ in range(300):
        hub.send(A.id, RunEnded(run_id="r"))
    assert len(waiting_in(session)) == 0
    with pytest.raises(Unavailable, match="reads none"):
        await drained(session)


async def test_desired_state_is_sent_once_a_generation(hub: SessionHub, fleet: Fleet) -> None:
    """A session gets the desired state at its start, and again only when its generation has grown."""
    device = member_of(fleet)
    session = hub.open(device)
    await hub.push_desired(session)
    await hub.push_desired(session)
    fleet.update(device.id, group="field", set_labels={}, actor="test")
    await hub.push_desired(session)
    generations = [down.generation for down in waiting_in(session) if isinstance(down, DesiredState)]
    assert generations == [0, 1]
    assert hub.online("field") == {device.id}


async def test_change_by_another_coordinator_is_pushed(hub: SessionHub, fleet: Fleet) -> None:
    """The loop finds a newer generation by itself and pushes to whom it concerns."""
    device = member_of(fleet)
    session = hub.open(device)
    await hub.follow_desired()
    fleet.update(device.id, group="field", set_labels={}, actor="somebody elsewhere")
    await hub.follow_desired()
    assert [down.generation for down in waiting_in(session) if isinstance(down, DesiredState)] == [0, 1]


async def test_one_device_in_trouble_does_not_keep_the_others_waiting(hub: SessionHub, fleet: Fleet) -> None:
    """A device that is in no table is passed over; the others have theirs."""
    stranger, device = hub.open(A), hub.open(member_of(fleet))
    await hub.follow_desired()
    assert len(waiting_in(device)) == 1
    assert waiting_in(stranger) == []


async def test_cut_ends_whatever_the_device_does(hub: SessionHub, calls: RunningCalls) -> None:
    """All running calls of the device fail with the reason, at once, and it is offline."""

    async def call() -> None:
        with calls.of(A.id, endless=False):
            await asyncio.Event().wait()

    running = [asyncio.ensure_future(call()) for _ in range(3)]
    hub.open(A)
    await wait_until_async(lambda: calls.count() == 3)
    hub.cut(A.id, "this device was revoked")
    assert hub.online() == set()
    for task in running:
        with pytest.raises(Unauthenticated, match="revoked"):
            await task


async def test_revocation_by_another_coordinator_cuts(
    hub: SessionHub, fleet: Fleet, calls: RunningCalls, clock: SetClock
) -> None:
    """The loop finds a revocation by itself, also one that was committed a little late, and not for ever."""
    device = member_of(fleet)
    clock.advance(timedelta(hours=1))
    await hub.follow_revocations()
    clock.advance(timedelta(seconds=-5))  # of a coordinator whose clock is behind
    fleet.revoke(device.id, reason="lost", actor="somebody elsewhere")
    clock.advance(timedelta(seconds=6))
    hub.open(device)
    await hub.follow_revocations()
    assert hub.online() == set()


async def test_silent_device_is_offline(hub: SessionHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that misses three heartbeats is offline and its session ends; one that was heard stays."""
    silent, heard = hub.open(A), hub.open(B)
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + 89)
    await hub.end_silent()
    assert hub.online() == {A.id, B.id}
    hub.heard(heard)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + 91)
    await hub.end_silent()
    assert hub.online() == {B.id}
    with pytest.raises(Unavailable, match="no heartbeat"):
        await drained(silent)


async def test_watcher_wakes_at_a_change(hub: SessionHub) -> None:
    """Who waits for a change is woken by one, misses none that came before, and gives up after its time."""
    seen = await hub.wait_for_change(-1, 10)
    waiting = asyncio.ensure_future(hub.wait_for_change(seen, 10))
    await asyncio.sleep(0)
    hub.open(A)
    after = await waiting
    assert after > seen
    assert await hub.wait_for_change(seen, 10) == after
    assert await hub.wait_for_change(after, 0.01) == after


async def test_sessions_outlive_a_database_that_is_away(hub: SessionHub, fleet: Fleet, tmp_path: Path) -> None:
    """While the database is gone the sessions stay open; what was changed is pushed when it is back."""
    device = member_of(fleet)
    session = hub.open(device)
    fleet.update(device.id, group="field", set_labels={}, actor="test")
    with file_away(tmp_path / "edgeward.db"):
        with pytest.raises(Unavailable):
            await hub.follow_desired()
        with pytest.raises(Unavailable):
            await hub.follow_revocations()
        assert hub.online() == {device.id}
    await hub.follow_desired()
    assert [down.generation for down in waiting_in(session) if isinstance(down, DesiredState)] == [1]
