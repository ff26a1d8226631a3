"""Whether an artifact may be installed: only what is in signed metadata exactly as the desired state has it.

A coordinator that someone else controls can offer anything and change the desired
state; without the keys of targets, or of a project, nothing of it is installed.
The rules are python-tuf's and those of `floors`; this is the shell around them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward.protocol.targets import target_path
from edgeward_agent.errors import Interrupted
from edgeward_agent.trust.errors import Expired, Untrusted
from edgeward_agent.trust.fitness import difference_reason
from edgeward_agent.trust.floors import BUILT_AT, Floors, lowest_now, raise_floors

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.targets import SignedTarget
    from edgeward_agent.trust.client import Verified
    from edgeward_agent.trust.store import TrustStore


# A file's name and its most bytes -> its content; None: there is no such file; raises Interrupted.
FetchMetadata = Callable[[str, int], Awaitable[bytes | None]]


class Authority:
    """One device's; event loop only, the work is done in threads, one at a time.

    Args:
        store: What the device trusts.
        fetch_metadata: Gets a file of signed metadata from the coordinator.
        clock: Aware UTC now, as far as the device knows.
        fresh_for: How long one look at the coordinator's metadata answers for what it covers: a desired state of ten
            models costs one. What it does not cover is looked up anew; zero: so is everything.
        built_at: The lower bound of now without any other.
    """

    def __init__(
        self,
        store: TrustStore,
        *,
        fetch_metadata: FetchMetadata,
        clock: Callable[[], datetime],
        fresh_for: timedelta = timedelta(seconds=5),
        built_at: datetime = BUILT_AT,
    ) -> None:
        self._store = store
        self._clock = clock
        self._fresh_for = fresh_for
        self._built_at = built_at
        self._turn = asyncio.Lock()
        self._fetch = _FetchOnLoop(fetch_metadata)
        self._fresh: Verified | None = None

    async def authorize(self, model: str, version: int, flavor: Flavor) -> SignedTarget:
        """Check that this was signed for; what was learnt is durable when it returns.

        Raises:
            Untrusted: It was not, or the coordinator's metadata does not verify.
            Interrupted: The metadata did not come, or the disk is full.
        """
        path = target_path(model, version, flavor.name)
        async with self._turn:
            before = self._fresh
            self._fetch.begin()
            work = asyncio.create_task(asyncio.to_thread(self._authorize, path, flavor), name=f"trust {path}")
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # The thread must not be left at work in a folder that the next one takes.
                self._fetch.give_up()
                await asyncio.gather(work, return_exceptions=True)
                raise
            finally:
                if not self._fresh_for:
                    self._fresh = None
                elif self._fresh is not before:
                    asyncio.get_running_loop().call_later(self._fresh_for.total_seconds(), self._forget, self._fresh)

    def _authorize(self, path: str, flavor: Flavor) -> SignedTarget:
        fresh = self._fresh
        if fresh is not None:
            with suppress(Untrusted):
                return _covered(fresh, path, flavor)
        try:
            self._fresh = verified = self._refresh()
        except OSError as error:
            raise Interrupted(
                f"{self._store.folder} can't be written ({error.strerror or error}), so nothing can be authorized",
                hint="make room on the disk",
            ) from error
        return _covered(verified, path, flavor)

    def _refresh(self) -> Verified:
        from edgeward_agent.trust import client

        floors = self._store.floors()
        clock = self._clock()
        now = lowest_now(clock, floors, built_at=self._built_at)
        try:
            verified = client.refresh(self._store.cache, self._store.root(), fetch=self._fetch, now=now)
        except Expired:
            by_clock = lowest_now(clock, Floors(), built_at=self._built_at)
            if by_clock == now:
                raise
            # Whoever had the timestamp's key may have signed an instant far ahead. That bound goes with the key, and
            # whether the key went is known after a walk without the bound: `raise_floors` keeps it where the key
            # stayed, and then what was just walked through has expired below.
            now = by_clock
            verified = client.refresh(self._store.cache, self._store.root(), fetch=self._fetch, now=now)
        raised = raise_floors(floors, verified.versions(), verified.signed_at())
        # The timestamp may have told of a later hour than the clock.
        verified.verify_fresh(lowest_now(now, raised, built_at=self._built_at))
        self._store.advance_root(verified.root(self._store.cache))
        if raised != floors:
            self._store.persist_floors(raised)
        return verified

    def _forget(self, verified: Verified | None) -> None:
        if self._fresh is verified:
            self._fresh = None


def _covered(verified: Verified, path: str, flavor: Flavor) -> SignedTarget:
    target = verified.target(path)
    if target is None:
        raise Untrusted(
            f"{path} is not in the signed metadata", hint="a person with the approver's role has to approve the version"
        )
    reason = difference_reason(target, flavor)
    if reason:
        raise Untrusted(f"{path} is not what was signed: {reason}")
    return target


class _FetchOnLoop:
    """Called in a thread, fetches on the event loop."""

    def __init__(self, fetch_metadata: FetchMetadata) -> None:
        self._fetch_metadata = fetch_metadata
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[bytes | None] | None = None

    def begin(self) -> None:
        """From now on until `give_up`."""
        self._loop = asyncio.get_running_loop()

    def give_up(self) -> None:
        """End what goes on, and refuse the rest."""
        self._loop = None
        if self._task is not None:
            self._task.cancel()

    def __call__(self, name: str, max_bytes: int) -> bytes | None:
        loop = self._loop
        if loop is None:
            raise Interrupted(f"{name} is not wanted any more")
        return asyncio.run_coroutine_threadsafe(self._on_loop(name, max_bytes), loop).result()

    async def _on_loop(self, name: str, max_bytes: int) -> bytes | None:
        if self._loop is None:
            raise Interrupted(f"{name} is not wanted any more")
        self._task = asyncio.ensure_future(self._fetch_metadata(name, max_bytes))
        try:
            return await self._task
        finally:
            self._task = None
