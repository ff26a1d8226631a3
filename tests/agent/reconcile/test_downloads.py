"""Downloads as the owner allows them, and turns among them."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.targets import PatchOffer, SignedTarget
from edgeward_agent.artifacts import FetchInterrupted
from edgeward_agent.config import UpdateSettings, parse_config
from edgeward_agent.reconcile import Downloads, Turns
from edgeward_agent.reconcile.downloads import NotAllowed, least_bytes, sizes_of
from edgeward_agent.reconcile.turns import Attempt
from tests.agent.reconcile.facts import flavor
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON = datetime(2026, 3, 4, 12, 0)  # noqa: DTZ001 - a clock on a wall
MODEL, GOLDEN, PATCH, BASE = (digest_of(name) for name in (b"model", b"golden", b"patch", b"base"))


class Source:
    """Bytes that come in pieces of ten, and how the stream ended."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.is_closed = False
        self.hold: asyncio.Event | None = None
        self.error: Exception | None = None

    async def fetch(self, _digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """Five pieces; after each it waits for `hold`."""
        self.offsets.append(offset)
        try:
            if self.error is not None:
                raise self.error
            for _ in range(5):
                yield b"x" * 10
                if self.hold is not None:
                    await self.hold.wait()
        finally:
            self.is_closed = True


def make_downloads(source: Source, updates: str = "", *, metered: list[bool] | None = None) -> Downloads:
    settings = parse_config(f"[updates]\n{updates}").updates
    link = metered if metered is not None else [False]
    return Downloads(
        source.fetch, settings, is_metered=lambda: link[0], local_now=lambda: NOON, monotonic=time.monotonic
    )


async def test_bytes_come_through() -> None:
    """From the offset on."""
    source = Source()
    fetch = make_downloads(source).fetch_for(Attempt(), {MODEL: 50})
    assert b"".join([piece async for piece in fetch(MODEL, 7)]) == b"x" * 50
    assert source.offsets == [7]
    assert source.is_closed


async def test_each_artifact_is_allowed_by_its_own_size() -> None:
    """Over a metered link the patch comes and the whole file, should the patch fail, waits."""
    downloads = make_downloads(Source(), 'metered = "small"\nmetered_max_bytes = 100', metered=[True])
    fetch = downloads.fetch_for(Attempt(), {MODEL: 1000, PATCH: 100})
    assert len([piece async for piece in fetch(PATCH, 0)]) == 5
    with pytest.raises(NotAllowed, match="metered link"):
        await anext(fetch(MODEL, 0))


async def test_a_stop_ends_it_in_the_middle_of_a_wait() -> None:
    """The stream is closed and the reason told."""
    source = Source()
    source.hold = asyncio.Event()
    attempt = Attempt()
    pieces = make_downloads(source).fetch_for(attempt, {})(MODEL, 0)
    assert await anext(pieces) == b"x" * 10
    next_piece = asyncio.ensure_future(anext(pieces))
    await wait_until_async(lambda: attempt._limit is not None)
    attempt.stop("another version is wanted by now")
    with pytest.raises(FetchInterrupted, match="another version"):
        await next_piece
    assert source.is_closed


async def test_a_time_out_of_the_link_is_not_taken_for_a_stop() -> None:
    """Only what was asked for is translated."""
    source = Source()
    source.error = TimeoutError("of the link")
    pieces = make_downloads(source).fetch_for(Attempt(), {})(MODEL, 0)
    with pytest.raises(TimeoutError, match="of the link"):
        await anext(pieces)


async def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the first second's worth each piece is waited for."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("edgeward_agent.reconcile.downloads.asyncio.sleep", sleep)
    settings = UpdateSettings(bandwidth_bytes_s=10)
    downloads = Downloads(
        Source().fetch, settings, is_metered=lambda: False, local_now=lambda: NOON, monotonic=lambda: 0.0
    )
    assert len([piece async for piece in downloads.fetch_for(Attempt(), {})(MODEL, 0)]) == 5
    assert waits == [1.0, 2.0, 3.0, 4.0]


def test_the_size_of_a_download_is_that_of_the_smallest_way() -> None:
    """A patch counts where its base is here."""
    artifact = flavor("a", 1, "onnx-int8")
    offer = PatchOffer(base_digest=BASE, digest=PATCH, total_bytes=3)
    signed = SignedTarget(model="a", version=1, flavor=artifact, patches=(offer,))
    assert sizes_of(signed) == {artifact.digest: 10, PATCH: 3}
    assert least_bytes(signed, {BASE}) == 3
    assert least_bytes(signed, set()) == 10


async def test_turns_are_in_order_and_one_at_a_time() -> None:
    """Who came first is first."""
    turns = Turns()
    order: list[str] = []

    async def work(name: str) -> None:
        async with turns.turn(Attempt(), is_quick=False):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(work(name) for name in "abc"))
    assert order == ["a", "a", "b", "b", "c", "c"]


async def test_nobody_has_to_give_way_while_nobody_waits() -> None:
    """A long download alone is not disturbed; the next one to come stops it at once."""
    turns = Turns(turn_s=0.0)
    first, second = Attempt(), Attempt()
    async with turns.turn(first, is_quick=False):
        await wait_until_async(lambda: first.is_overdue)
        assert not first.stopped
        waiting = asyncio.create_task(_take(turns, second))
        await wait_until_async(lambda: first.stopped)
    await waiting


async def test_who_was_stopped_while_waiting_has_no_turn() -> None:
    """It ends before it begins, and the next one has its turn."""
    turns = Turns()
    stopped = Attempt()
    stopped.stop("another version is wanted by now")
    with pytest.raises(FetchInterrupted):
        await _take(turns, stopped)
    await _take(turns, Attempt())


async def _take(turns: Turns, attempt: Attempt) -> None:
    async with turns.turn(attempt, is_quick=False):
        pass
