"""One part of the agent, started again whenever it fails: the others go on meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edgeward_agent.backoff import Backoff

_LOG = logging.getLogger(__name__)

# A part that ran this long before it failed begins its backoff anew.
_STABLE_AFTER_S = 60.0


async def supervise(name: str, work: Callable[[], Awaitable[None]], *, backoff: Backoff) -> None:
    """Run `work` for ever; only a cancellation ends it.

    Args:
        name: Of the part, for the log.
        work: Starts it, and is called again after each failure.
        backoff: Between the failures.
    """
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await work()
            _LOG.error("%s ended, which it never should", name)
        except Exception:  # noqa: BLE001 - the outermost frame of one part
            _LOG.exception("%s failed", name)
        if loop.time() - began >= _STABLE_AFTER_S:
            backoff.reset()
        wait_s = backoff.next_wait_s()
        _LOG.warning("%s starts again in %.1f s", name, wait_s)
        await asyncio.sleep(wait_s)
