"""The open sessions of the fleet: who is online, and what goes down to whom.

All on the event loop. Nothing here must be remembered: what a device should
know is computed from the database when its session starts and whenever the
fleet's generation has moved, by loops that only look at levels. So it does not
matter which coordinator wrote a change, or what a session missed before.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from edgeward.protocol.state import RunEnded
from edgeward_coordinator.errors import Unauthenticated, Unavailable
from edgeward_server.loops import repeat
from edgeward_server.session import DeviceSession
from edgeward_server.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from edgeward.protocol.state import RunInvitation
    from edgeward_coordinator.deployment import Deployments
    from edgeward_coordinator.fleet import DeviceIdentity, Fleet
    from edgeward_server.running import RunningCalls
    from edgeward_server.session import SessionDown

_LOG = structlog.stdlib.get_logger(__name__)

# A device that is so many heartbeats late is offline.
_MISSED_HEARTBEATS = 3
_POLL_S = 1.0
# So far back revocations are read again: the clocks of several coordinators differ.
_OVERLAP = timedelta(minutes=1)


class SessionHub:
    """Sessions by device, the loops that feed them, and a counter for those who watch.

    Args:
        fleet: Knows devices and revocations.
        deployments: Knows what devices should run.
        calls: The calls in progress, which a cut ends.
        heartbeat_s: How often devices are asked to say that they live.
        clock: Aware UTC now.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        deployments: Deployments,
        calls: RunningCalls,
        heartbeat_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self.heartbeat_s = heartbeat_s
        self._fleet = fleet
        self._deployments = deployments
        self._calls = calls
        self._clock = clock
        self._sessions: dict[str, DeviceSession] = {}
        self._generation = -1
        self._revoked_until = clock() - _OVERLAP
        self._look = asyncio.Event()
        self._changes = 0
        self._changed = asyncio.Event()
        self.news = asyncio.Event()

    def open(self, device: DeviceIdentity, *, can_train: bool = False) -> DeviceSession:
        """Begin a session; an older one of the same device ends."""
        older = self._sessions.get(device.id)
        if older is not None:
            _LOG.info("session replaced", device=device.id)
            older.end(Unavailable("a newer session of this device took over", hint="do two machines share its key?"))
        session = DeviceSession(device, can_train=can_train, now_s=asyncio.get_running_loop().time())
        self._sessions[device.id] = session
        self.changed()
        return session

    def close(self, session: DeviceSession) -> None:
        """Forget a session that has ended; idempotent."""
        session.end()
        if self._sessions.get(session.device_id) is session:
            del self._sessions[session.device_id]
            self.changed()

    def heard(self, session: DeviceSession) -> None:
        """The device has just said something."""
        session.heard_at_s = asyncio.get_running_loop().time()
        self.changed()

    def cut(self, device_id: str, reason: str) -> None:
        """End whatever the device does at this moment; for one that is no longer welcome."""
        ended = self._calls.end(device_id, Unauthenticated(reason, hint="a new enrollment token lets it come back"))
        if ended:
            _LOG.info("device cut off", device=device_id, calls=ended, reason=reason)
        session = self._sessions.get(device_id)
        if session is not None:
            self.close(session)

    def online(self, group: str | None = None) -> set[str]:
        """The ids of the devices that have a session, of one group or of all; from any thread."""
        # A copy in one step, for the event loop may change the sessions meanwhile.
        sessions = list(self._sessions.values())
        return {session.device_id for session in sessions if group is None or session.group == group}

    def trainable(self, group: str) -> set[str]:
        """The ids of the devices of a group that have a session and can train."""
        return {device_id for device_id in self.online(group) if self._sessions[device_id].can_train}

    def changed(self) -> None:
        """Something that a watcher of the fleet may show has changed."""
        self._changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def tell_news(self) -> None:
        """A device has said something new of its models: wakes those who wait for `news`, which they clear."""
        self.news.set()
        self.changed()

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """Wait until the count of changes is not `seen`, at most `timeout_s`.

        Returns:
            The count now, for the next call; start with -1.
        """
        if self._changes == seen:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
        return self._changes

    def send(self, device_id: str, message: SessionDown) -> bool:
        """Send to a device; says whether it is online. Losing it is harmless: its next session begins anew."""
        session = self._sessions.get(device_id)
        if session is None:
            return False
        session.send(message)
        return session.is_open

    def invite(self, device_id: str, invitation: RunInvitation) -> None:
        """Tell a device that a run's message waits for it."""
        self.send(device_id, invitation)

    def end_run(self, device_ids: Iterable[str], run_id: str) -> None:
        """Tell devices that a run has ended."""
        for device_id in device_ids:
            self.send(device_id, RunEnded(run_id=run_id))

    def desired_changed(self) -> None:
        """A desired state was changed here: look now rather than at the next poll."""
        self._look.set()
        self.changed()

    async def push_desired(self, *sessions: DeviceSession) -> None:
        """Send devices their desired states, where newer than what these sessions sent last.

        Raises:
            Unavailable: The database does not answer.
        """
        seen = {session.device_id: session.sent_generation for session in sessions}
        placed = await in_thread(self._deployments.desired_since, seen)
        for session in sessions:
            found = placed.get(session.device_id)
            if found is not None and found.desired.generation > session.sent_generation:
                session.group, session.sent_generation = found.group, found.desired.generation
                session.send(found.desired)

    async def run(self) -> None:
        """Keep the sessions in step with the database, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, step, wake in (
                ("desired states", self.follow_desired, self._look),
                ("revocations", self.follow_revocations, None),
                ("silent devices", self.end_silent, None),
            ):
                tasks.create_task(repeat(name, step, every_s=_POLL_S, wake=wake), name=f"sessions: {name}")

    async def follow_desired(self) -> None:
        """Push desired states if the fleet's generation has moved since all were pushed last."""
        generation = await in_thread(self._deployments.generation)
        if generation == self._generation:
            return
        await self.push_desired(*self._sessions.values())
        self._generation = generation
        self.changed()

    async def follow_revocations(self) -> None:
        """Cut devices off that another coordinator has revoked, or this one just before they called."""
        until = self._clock()
        for device_id in await in_thread(self._fleet.revoked_since, self._revoked_until):
            self.cut(device_id, "this device was revoked")
        self._revoked_until = until - _OVERLAP

    async def end_silent(self) -> None:
        """End the sessions of devices that have missed their heartbeats."""
        limit_s = _MISSED_HEARTBEATS * self.heartbeat_s
        now_s = asyncio.get_running_loop().time()
        for session in list(self._sessions.values()):
            if now_s - session.heard_at_s > limit_s:
                _LOG.info("device is silent", device=session.device_id, for_s=round(now_s - session.heard_at_s))
                session.end(Unavailable(f"no heartbeat for more than {limit_s:g} s", hint="connect again"))
                self.close(session)
