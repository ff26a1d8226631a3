"""Blocking work in threads."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from edgeward_server.threads import bound_threads, in_thread
from tests.waiting import wait_until_async

_WORD: ContextVar[str] = ContextVar("word")


async def test_result_error_and_context_travel() -> None:
    """A function in a thread sees the caller's context variables, and its result or error comes back."""
    _WORD.set("here")
    assert await in_thread(_WORD.get) == "here"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_cancelled_caller_waits_for_the_thread() -> None:
    """After a cancelled call has ended, its function does nothing any more."""
    started, finish, finished = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait(10)
        finished.set()

    call = asyncio.ensure_future(in_thread(work))
    await wait_until_async(started.is_set)
    call.cancel()
    await asyncio.sleep(0)
    assert not call.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert finished.is_set()


async def test_error_after_cancellation_is_not_lost_in_the_logs() -> None:
    """A function that fails after its caller was cancelled causes no complaint about an error nobody saw."""
    complaints: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    started, finish = threading.Event(), threading.Event()

    def fail() -> None:
        started.set()
        finish.wait(10)
        raise ValueError("too late")

    call = asyncio.ensure_future(in_thread(fail))
    await wait_until_async(started.is_set)
    call.cancel()
    await asyncio.sleep(0)
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    del call
    assert complaints == []


async def test_no_more_threads_than_the_bound() -> None:
    """Work beyond the bound waits for a free thread."""
    bound_threads(asyncio.get_running_loop(), threads=2)
    gate, lock = threading.Event(), threading.Lock()
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(10)
        with lock:
            running -= 1

    calls = [asyncio.ensure_future(in_thread(work)) for _ in range(6)]
    await wait_until_async(lambda: running == 2)
    gate.set()
    await asyncio.gather(*calls)
    assert most == 2
