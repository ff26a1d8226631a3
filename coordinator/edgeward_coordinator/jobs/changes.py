"""How often each thing has changed, and a way to wait for the next time; for one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter


class Changes:
    """Counters by key. Who remembers what it has seen misses nothing between two looks."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next = asyncio.Event()

    def count(self, key: str) -> int:
        """How often `key` has changed."""
        return self._counts[key]

    def mark(self, key: str) -> None:
        """`key` has changed."""
        self._counts[key] += 1
        waited_for, self._next = self._next, asyncio.Event()
        waited_for.set()

    async def wait(self, key: str, seen: int, *, within_s: float) -> int:
        """The count of `key` once it is not `seen`, or `seen` itself after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                while self._counts[key] == seen:
                    await self._next.wait()
        except TimeoutError:
            pass
        return self._counts[key]
