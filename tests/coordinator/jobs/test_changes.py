"""Waiting for the next change."""

from __future__ import annotations

import asyncio

from edgeward_coordinator.jobs.changes import Changes

FOR_EVER_S = 60.0


async def test_change_since_the_last_look_is_seen_at_once() -> None:
    """Nothing is missed between two looks."""
    changes = Changes()
    seen = changes.count("job")
    changes.mark("job")
    assert await changes.wait("job", seen, within_s=FOR_EVER_S) == 1


async def test_watcher_wakes_at_a_change_of_its_own() -> None:
    """Another's change is not taken for it; several watchers wake together."""
    changes = Changes()
    waits = [asyncio.create_task(changes.wait("job", 0, within_s=FOR_EVER_S), name=f"watcher {n}") for n in range(2)]
    await asyncio.sleep(0)
    changes.mark("other")
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    changes.mark("job")
    assert await asyncio.gather(*waits) == [1, 1]


async def test_waiting_ends_without_a_change() -> None:
    """What was seen comes back, for the watcher to look by itself."""
    assert await Changes().wait("job", 0, within_s=0.001) == 0
