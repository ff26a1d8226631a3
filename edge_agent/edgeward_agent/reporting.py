"""What the agent tells of itself: counters of the link, samples of its process, and the upload of the outbox.

All of it goes through the outbox, so that it survives a restart and a coordinator
that is away. Nothing here reads the outbox as a whole: a batch at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.telemetry import CounterIncrements, RecordBody, ResourceSample, TelemetryRecord
from edgeward_agent.errors import AgentError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from edgeward_agent.backoff import Backoff
    from edgeward_agent.link import Link, Presence
    from edgeward_agent.telemetry import Outbox

_LOG = logging.getLogger(__name__)

# Payload in one call; with one batch above it (1 MiB at most) still within a message of 4 MiB.
_CALL_BYTES = 1 << 20
# How much offline time a kill may cost in the count.
_ACCOUNT_EVERY_S = 30.0


class Notes:
    """Puts records in the outbox, with the time."""

    def __init__(self, outbox: Outbox, *, clock: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._clock = clock

    def record(self, body: RecordBody) -> None:
        """One record; blocking."""
        self._outbox.append(TelemetryRecord(at=self._clock(), body=body))


class Accounting:
    """Seconds offline and bytes over the link, from memory into the outbox."""

    def __init__(self, link: Link, presence: Presence, notes: Notes) -> None:
        self._link = link
        self._presence = presence
        self._notes = notes

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_ACCOUNT_EVERY_S)
            await self.settle()

    async def settle(self) -> None:
        """Put down what has gathered since the last time."""
        received, sent = self._link.traffic.take()
        offline_s = self._presence.take_offline_s()
        gathered = {"offline_s": offline_s, "bytes_received": float(received), "bytes_sent": float(sent)}
        increments = {name: value for name, value in gathered.items() if value > 0}
        if increments:
            await asyncio.to_thread(self._notes.record, CounterIncrements(increments=increments))


class Sampler:
    """Memory, CPU and disk, from time to time."""

    def __init__(self, root: Path, notes: Notes, *, interval: timedelta) -> None:
        self._root = root
        self._notes = notes
        self._interval_s = interval.total_seconds()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(self._interval_s)

    def _sample(self) -> None:
        sample = ResourceSample(
            resident_bytes=resident_bytes(),
            cpu_s=time.process_time(),
            disk_free_bytes=shutil.disk_usage(self._root).free,
        )
        self._notes.record(sample)


class Uploader:
    """Seals and sends what the outbox holds, when the link is up."""

    def __init__(
        self,
        outbox: Outbox,
        link: Link,
        presence: Presence,
        accounting: Accounting,
        *,
        interval: timedelta,
        backoff: Backoff,
    ) -> None:
        self._outbox = outbox
        self._link = link
        self._presence = presence
        self._accounting = accounting
        self._interval_s = interval.total_seconds()
        self._backoff = backoff
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """The link is back: send at once."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._presence.wait_online()
            self._wake.clear()
            wait_s = self._interval_s
            try:
                await self.upload()
                self._backoff.reset()
            except Interrupted as error:
                _LOG.debug("report: %s", error)
                wait_s = min(wait_s, self._backoff.next_wait_s())
            except AgentError as error:
                _LOG.error("the coordinator refuses telemetry: %s", error)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def upload(self) -> None:
        """Send until the coordinator has everything.

        Raises:
            Refused: The coordinator does not take it.
            Interrupted: The link broke; what was not acknowledged stays.
        """
        await self._accounting.settle()
        while True:
            await asyncio.to_thread(self._outbox.seal)
            batches = await asyncio.to_thread(self._outbox.unacknowledged, _CALL_BYTES)
            if not batches:
                return
            committed = await self._link.report(batches)
            if not {batch.sequence for batch in batches} & set(committed):
                raise Interrupted("the coordinator acknowledged none of the batches")
            await asyncio.to_thread(self._outbox.acknowledge, committed)


def resident_bytes() -> int:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
