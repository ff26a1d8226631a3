"""Keeps a session open for ever: connect, serve, and when it ends, wait a jittered while and knock again.

A failure is explained once, when it begins or changes, however often the attempt
is repeated. A refusal (revoked, unknown) is not retried at the pace of a broken
network, but it is retried: what an operator set right needs no hand on the device.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from edgeward_agent.errors import AgentError, Interrupted, Refused
from edgeward_agent.link.diagnose import diagnose_connection

if TYPE_CHECKING:
    from random import Random

    from edgeward.protocol.state import Heartbeat, Hello, ReportedState
    from edgeward_agent.backoff import Backoff
    from edgeward_agent.link.link import Link
    from edgeward_agent.link.presence import Presence
    from edgeward_agent.link.session import Session, SessionEvent

_LOG = logging.getLogger(__name__)

# A coordinator that takes a session and drops it at once must not be hammered at the pace of a first retry.
_STABLE_AFTER_S = 5.0
# What a welcome may ask for; outside of it the nearer bound holds.
_SHORTEST_HEARTBEAT_S, _LONGEST_HEARTBEAT_S = 0.05, 3600.0


class SessionSide(Protocol):
    """What a session needs of the rest of the agent."""

    async def hello(self) -> Hello:
        """The first words, as of now."""

    async def heartbeat(self) -> Heartbeat:
        """As of now."""

    async def next_report(self) -> ReportedState:
        """Wait for a change of the reported state since the last hello or report; the newest."""

    def received(self, event: SessionEvent) -> None:
        """Take note of what the coordinator said; must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """The pace of a session."""

    heartbeat: timedelta | None = None
    """Between heartbeats; None: what the coordinator asks for in its welcome."""

    refused_retry: timedelta = timedelta(minutes=5)
    """The longest wait after a refusal; half of it is the shortest."""


class SessionKeeper:
    """One device's session, again and again."""

    def __init__(
        self,
        link: Link,
        side: SessionSide,
        presence: Presence,
        *,
        backoff: Backoff,
        rng: Random,
        settings: KeeperSettings | None = None,
    ) -> None:
        self._link = link
        self._side = side
        self._presence = presence
        self._backoff = backoff
        self._rng = rng
        self._settings = settings or KeeperSettings()
        self._complaint = ""

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._one_session()
                wait_s = self._backoff.next_wait_s()
            except Refused as error:
                wait_s = self._wait_after_refusal(error)
            except Interrupted as error:
                wait_s = await self._wait_after_interruption(error)
            await asyncio.sleep(wait_s)

    async def _one_session(self) -> None:
        async with self._link.session(await self._side.hello()) as session:
            opened_at = asyncio.get_running_loop().time()
            self._complaint = ""
            _LOG.info("connected to %s as %s", self._link.identity.address, session.welcome.device_id)
            self._presence.set_online()
            try:
                await self._serve(session)
                _LOG.info("the session ended")
            finally:
                self._presence.set_offline()
                if asyncio.get_running_loop().time() - opened_at >= _STABLE_AFTER_S:
                    self._backoff.reset()

    async def _serve(self, session: Session) -> None:
        self._side.received(session.welcome)
        try:
            async with asyncio.TaskGroup() as group:
                senders = [
                    group.create_task(self._send_heartbeats(session), name="heartbeats"),
                    group.create_task(self._send_reports(session), name="reported state"),
                ]
                async for event in session.events():
                    self._side.received(event)
                for sender in senders:
                    sender.cancel()
        except BaseExceptionGroup as failures:
            # A stop that comes while the stream breaks: before Python 3.13 the group tells only of the break.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from failures
            raise _most_telling(failures) from failures

    async def _send_heartbeats(self, session: Session) -> None:
        wanted = self._settings.heartbeat
        interval_s = wanted.total_seconds() if wanted is not None else session.welcome.heartbeat_s
        while True:
            # Not-a-number, too, must give a pace.
            await asyncio.sleep(max(_SHORTEST_HEARTBEAT_S, min(_LONGEST_HEARTBEAT_S, interval_s)))
            await session.send(await self._side.heartbeat())

    async def _send_reports(self, session: Session) -> None:
        while True:
            await session.send(await self._side.next_report())

    def _wait_after_refusal(self, error: Refused) -> float:
        wait_s = self._settings.refused_retry.total_seconds() * self._rng.uniform(0.5, 1.0)
        self._complain(error, logging.ERROR)
        return wait_s

    async def _wait_after_interruption(self, error: Interrupted) -> float:
        cause: AgentError = error
        try:
            identity = self._link.identity
            found = await asyncio.to_thread(
                diagnose_connection,
                identity.address,
                fleet_ca_pem=identity.fleet_ca_pem,
                now=datetime.now(UTC),
                identity=identity,
            )
            cause = found or error
        except (OSError, ValueError):
            # The identity's files were replaced this moment; the next attempt sees the new ones.
            _LOG.debug("no diagnosis", exc_info=True)
        if isinstance(cause, Refused):
            return self._wait_after_refusal(cause)
        self._complain(cause, logging.WARNING)
        return self._backoff.next_wait_s()

    def _complain(self, error: AgentError, level: int) -> None:
        text = str(error)
        if text != self._complaint:
            self._complaint = text
            _LOG.log(level, "no session: %s", text)


def _most_telling(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """A bug before the end of the stream, which its reader and its writers tell alike."""
    errors = failures.exceptions
    return next((error for error in errors if not isinstance(error, AgentError)), errors[0])
