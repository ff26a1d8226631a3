"""Whether there is a session, and for how many seconds there was none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Presence:
    """Offline from the start; event loop only."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Wire it.

        Args:
            monotonic: Seconds of a clock that is never set.
        """
        self._monotonic = monotonic
        self._online = asyncio.Event()
        self._offline_since: float | None = monotonic()
        self._offline_s = 0.0

    @property
    def is_online(self) -> bool:
        """Whether a session is open."""
        return self._online.is_set()

    async def wait_online(self) -> None:
        """Return once a session is open."""
        await self._online.wait()

    def set_online(self) -> None:
        """A session was opened."""
        self._settle()
        self._offline_since = None
        self._online.set()

    def set_offline(self) -> None:
        """The session ended."""
        if self._offline_since is None:
            self._offline_since = self._monotonic()
        self._online.clear()

    def take_offline_s(self) -> float:
        """The seconds without a session since the last call."""
        self._settle()
        taken, self._offline_s = self._offline_s, 0.0
        return taken

    def _settle(self) -> None:
        if self._offline_since is not None:
            now = self._monotonic()
            self._offline_s += now - self._offline_since
            self._offline_since = now
