"""One part that is started again."""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import TYPE_CHECKING

from edgeward_agent.backoff import Backoff, BackoffLimits
from edgeward_agent.supervision import supervise
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    import pytest

QUICK = BackoffLimits(initial_s=0.001, maximum_s=0.002)


async def test_a_part_that_fails_or_ends_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each time, with the trace of its failure in the log; a cancellation ends it."""
    starts = []

    async def part() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise RuntimeError("a bug")
        if len(starts) > 2:
            await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(supervise("sampling", part, backoff=Backoff(QUICK, rng=Random(1))))
        await wait_until_async(lambda: len(starts) == 3)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    failed, ended = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert failed.message == "sampling failed"
    assert failed.exc_info
    assert "ended, which it never should" in ended.message
