"""Long-running work of the server: steps taken again and again, and supervisors kept alive.

Both go on whatever one step runs into. A database that is away is logged once,
and once more when it is back.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from edgeward_coordinator.errors import Unavailable
from edgeward_server.errors import innermost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOG = structlog.stdlib.get_logger(__name__)

_LONGEST_PAUSE_S = 30.0


async def repeat(
    name: str, step: Callable[[], Awaitable[None]], *, every_s: float, wake: asyncio.Event | None = None
) -> None:
    """Take `step` for ever, each `every_s` and whenever `wake` is set."""
    wake = wake or asyncio.Event()
    trouble = ""
    while True:
        wake.clear()
        trouble = await _take(name, step, trouble)
        # Not wait_for: before Python 3.12 it may lose a cancellation, and the server would never stop.
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await wake.wait()


async def _take(name: str, step: Callable[[], Awaitable[None]], trouble: str) -> str:
    """One step; says what is wrong now, having logged it where that is news."""
    try:
        await step()
    except Exception as error:  # noqa: BLE001 - the outermost frame of a task
        kind = "unavailable" if isinstance(innermost(error), Unavailable) else repr(error)
        if trouble != kind:
            _log_trouble(name, error)
        return kind
    if trouble:
        _LOG.info("going on", loop=name)
    return ""


async def supervise(name: str, run: Callable[[], Awaitable[None]], *, first_pause_s: float = 1.0) -> None:
    """Keep `run`, which should never return, running; pauses grow while it fails again and again."""
    loop = asyncio.get_running_loop()
    pause_s, trouble = first_pause_s, ""
    while True:
        started = loop.time()
        now_wrong = await _take(name, run, trouble)
        if not now_wrong:
            _LOG.error("ended, starts again", loop=name)
        if loop.time() - started > _LONGEST_PAUSE_S:
            pause_s, now_wrong = first_pause_s, ""
        trouble = now_wrong
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _log_trouble(name: str, error: Exception) -> None:
    cause = innermost(error)
    if isinstance(cause, Unavailable):
        _LOG.warning("waiting", loop=name, reason=str(cause))
    else:
        _LOG.error("failed, tries again", loop=name, exc_info=error)
