"""Wait for something that another process or task brings about, without sleeping longer than needed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_S = 0.02


def wait_until(predicate: Callable[[], object], *, within_s: float = 30, what: str = "") -> None:
    """Return once `predicate()` is true.

    Raises:
        AssertionError: It was not within `within_s`.
    """
    deadline = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not after {within_s} s: {what or predicate}")
        time.sleep(_PAUSE_S)


async def wait_until_async(predicate: Callable[[], object], *, within_s: float = 30, what: str = "") -> None:
    """`wait_until` for code that runs on the event loop."""
    deadline = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not after {within_s} s: {what or predicate}")
        await asyncio.sleep(_PAUSE_S)
