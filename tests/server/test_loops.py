"""Loops that go on whatever a step runs into."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from edgeward_coordinator.errors import Unavailable
from edgeward_server.loops import repeat, supervise
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A task for as long as the block runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


class Step:
    """Counts its calls; raises what is put into `failing`."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing: Exception | None = None

    async def __call__(self) -> None:
        """One step."""
        self.calls += 1
        if self.failing is not None:
            raise self.failing


async def test_database_that_is_away_is_logged_once_and_once_when_it_is_back() -> None:
    """However many steps fail, the log has one line for the beginning of an outage and one for its end."""
    step = Step()
    step.failing = Unavailable("the database is away")
    with structlog.testing.capture_logs() as logs:
        async with running(repeat("deeds", step, every_s=0.001)):
            await wait_until_async(lambda: step.calls >= 5)
            step.failing = None
            await wait_until_async(lambda: len(logs) == 2)
    assert [(entry["event"], entry["loop"]) for entry in logs] == [("waiting", "deeds"), ("going on", "deeds")]


async def test_mistake_in_a_step_is_logged_once_and_tried_again() -> None:
    """A bug in a step does not end the loop, nor fill the log."""
    step = Step()
    step.failing = KeyError("bug")
    with structlog.testing.capture_logs() as logs:
        async with running(repeat("deeds", step, every_s=0.001)):
            await wait_until_async(lambda: step.calls >= 5)
    assert [entry["event"] for entry in logs] == ["failed, tries again"]


async def test_wake_takes_a_step_before_its_time() -> None:
    """A set event is heeded at once, not after the pause."""
    step, wake = Step(), asyncio.Event()
    async with running(repeat("deeds", step, every_s=3600, wake=wake)):
        await wait_until_async(lambda: step.calls == 1)
        wake.set()
        await wait_until_async(lambda: step.calls == 2)


async def test_supervised_work_starts_again_after_a_failure_and_after_an_end() -> None:
    """Long-running work that raises or returns is started again; an outage that lasts is logged once."""
    troubles: list[Exception | None] = [KeyError("bug"), Unavailable("away"), Unavailable("away"), None]

    async def work() -> None:
        if not troubles:
            await asyncio.Event().wait()
        trouble = troubles.pop(0)
        if trouble is not None:
            raise ExceptionGroup("of a task group", [trouble])

    with structlog.testing.capture_logs() as logs:
        async with running(supervise("work", work, first_pause_s=0.001)):
            await wait_until_async(lambda: not troubles)
    events = [entry["event"] for entry in logs]
    assert events == ["failed, tries again", "waiting", "going on", "ended, starts again"]
