"""One installation at a time, and none that keeps the others waiting.

The store fills one slot at a time: one download has the whole link, one golden
set the memory. Whoever needs no download (a roll-back to what is still here) has
the turn at once, the others after `TURN_S` at the latest; a download that gives
way keeps what has arrived and comes back.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import FetchInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TURN_S = 30.0

_GIVES_WAY = "another model has its turn"


class Attempt:
    """What is being done for one model; it can be stopped while it waits for bytes.

    Attributes:
        stopped: Why; empty while it goes on.
        is_overdue: Whether it has had its turn.
    """

    def __init__(self) -> None:
        self.stopped = ""
        self.is_overdue = False
        self._limit: asyncio.Timeout | None = None

    def stop(self, reason: str) -> None:
        """End it at the next opportunity; between two pieces of a download that is at once."""
        self.stopped = self.stopped or reason
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    def verify_goes_on(self) -> None:
        """Raise `FetchInterrupted` where it was stopped."""
        if self.stopped:
            raise FetchInterrupted(self.stopped)

    async def next_of(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece; None at the end.

        Raises:
            FetchInterrupted: It was stopped.
        """
        self.verify_goes_on()
        try:
            async with asyncio.timeout(None) as self._limit:
                return await anext(pieces, None)
        except TimeoutError:
            self.verify_goes_on()
            raise
        finally:
            self._limit = None


class Turns:
    """Event loop only.

    Args:
        turn_s: How long a download may keep the others waiting.
    """

    def __init__(self, *, turn_s: float = TURN_S) -> None:
        self._turn_s = turn_s
        self._lock = asyncio.Lock()
        self._holder: Attempt | None = None
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, attempt: Attempt, *, is_quick: bool) -> AsyncIterator[None]:
        """Have the store alone.

        Args:
            attempt: Of whom; it is stopped when others have waited long enough.
            is_quick: Whether it needs no download.
        """
        if self._holder is not None and (is_quick or self._holder.is_overdue):
            self._holder.stop(_GIVES_WAY)
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        timer = asyncio.get_running_loop().call_later(self._turn_s, self._end_turn, attempt)
        self._holder = attempt
        try:
            attempt.verify_goes_on()
            yield
        finally:
            timer.cancel()
            self._holder = None
            self._lock.release()

    def _end_turn(self, attempt: Attempt) -> None:
        attempt.is_overdue = True
        if self._waiting:
            attempt.stop(_GIVES_WAY)
