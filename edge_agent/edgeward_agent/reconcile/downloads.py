"""The bytes of artifacts as the device's owner allows them: in the right hours, over the right link, not too fast."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import FetchInterrupted
from edgeward_agent.reconcile.allowance import why_wait
from edgeward_agent.reconcile.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
    from datetime import datetime

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.targets import SignedTarget
    from edgeward_agent.artifacts import Fetch
    from edgeward_agent.config import UpdateSettings
    from edgeward_agent.reconcile.turns import Attempt


class NotAllowed(FetchInterrupted):
    """The owner of the device does not want a download now."""


class Downloads:
    """All downloads of one device. Event loop only.

    Args:
        fetch: The bytes of an artifact from an offset on.
        settings: What the owner set.
        is_metered: Whether the link is metered at this moment.
        local_now: What a clock on the wall shows.
        monotonic: Seconds of a clock that is never set.
    """

    def __init__(
        self,
        fetch: Fetch,
        settings: UpdateSettings,
        *,
        is_metered: Callable[[], bool],
        local_now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._settings = settings
        self._is_metered = is_metered
        self._local_now = local_now
        self._monotonic = monotonic
        self._pace = Pace(settings.bandwidth_bytes_s, now=monotonic())

    def verify_allowed(self, total_bytes: int) -> None:
        """Check that a download may begin or go on.

        Args:
            total_bytes: Of the download; 0 where that is not known yet.

        Raises:
            NotAllowed: Not now, and why.
        """
        reason = why_wait(self._settings, total_bytes=total_bytes, is_metered=self._is_metered(), now=self._local_now())
        if reason:
            raise NotAllowed(reason)

    def fetch_for(self, attempt: Attempt, sizes: Mapping[Digest, int]) -> Fetch:
        """The fetch of one attempt: it can be stopped, and each artifact is allowed by its own size."""

        def fetch(digest: Digest, offset: int) -> AsyncIterator[bytes]:
            return self._pieces(attempt, digest, offset, sizes.get(digest, 0))

        return fetch

    async def _pieces(
        self, attempt: Attempt, digest: Digest, offset: int, total_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        self.verify_allowed(total_bytes)
        async with aclosing(_generator(self._fetch(digest, offset))) as pieces:
            while (piece := await attempt.next_of(pieces)) is not None:
                self.verify_allowed(total_bytes)
                yield piece
                wait_s = self._pace.take(len(piece), self._monotonic())
                if wait_s > 0:
                    await asyncio.sleep(wait_s)


def sizes_of(signed: SignedTarget) -> dict[Digest, int]:
    """How large each artifact is that an installation of it may ask for."""
    flavor = signed.flavor
    sizes = {patch.digest: patch.total_bytes for patch in signed.patches}
    if flavor.golden_digest is not None:
        sizes[flavor.golden_digest] = flavor.golden_bytes
    sizes[flavor.digest] = flavor.total_bytes
    return sizes


def least_bytes(signed: SignedTarget, held: Collection[Digest]) -> int:
    """The bytes of the largest artifact that must come, by the smallest patch that fits what is here."""
    flavor = signed.flavor
    patches = [patch.total_bytes for patch in signed.patches if patch.base_digest in held]
    return max(min([flavor.total_bytes, *patches]), flavor.golden_bytes)


async def _generator(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Any iterator as one that can be closed."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
