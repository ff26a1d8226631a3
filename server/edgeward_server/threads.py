"""The one place where blocking work leaves the event loop.

The domain is synchronous and thread-safe; a servicer calls it through
`in_thread`. The executor is bounded, so a flood of calls queues here rather than
in the database.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_P = ParamSpec("_P")
_T = TypeVar("_T")

THREADS = 16


def bound_threads(loop: asyncio.AbstractEventLoop, *, threads: int = THREADS) -> None:
    """Give `loop` the executor on which `in_thread` runs; it is shut down with the loop."""
    loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="domain"))


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `function` in a thread, with the caller's context variables.

    A thread can't be cancelled. So a cancelled caller waits here until the
    function has returned: nothing works on behind a call that has ended, hence
    the next call on the same file or row does not meet the last one.
    """
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Await what must not be left half done: a cancellation is heeded when it is over."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await asyncio.wait([task])
            task.exception()  # seen: the caller is gone, and who asked for its end knows why
        raise
