"""Ending calls from outside, without gRPC around them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    from edgeward_server.running import RunningCalls


async def call(calls: RunningCalls, entered: asyncio.Event) -> str:
    """A call that ends only when it is ended; says how many cancellations its task has left."""
    try:
        with calls.of("device", endless=False):
            entered.set()
            await asyncio.Event().wait()
    except Unauthenticated as error:
        task = asyncio.current_task()
        assert task is not None
        return f"{error.message}, {task.cancelling()} left"
    return "went on"


async def test_ended_call_is_not_cancelled_any_more(calls: RunningCalls) -> None:
    """The error takes the place of the cancellation: the task can await again, to tell the client. The first stays."""
    entered = asyncio.Event()
    task = asyncio.ensure_future(call(calls, entered))
    await entered.wait()
    assert calls.end("device", Unauthenticated("revoked")) == 1
    calls.end("device", Unavailable("too late"))
    assert await task == "revoked, 0 left"
    assert calls.owners() == set()
    assert calls.end("device", Unavailable("nobody is there")) == 0


async def test_cancellation_by_another_wins(calls: RunningCalls) -> None:
    """A call that is ended and cancelled at once (the client left, the server's grace is over) is cancelled."""
    entered = asyncio.Event()
    task = asyncio.ensure_future(call(calls, entered))
    await entered.wait()
    calls.end("device", Unauthenticated("revoked"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.owners() == set()
