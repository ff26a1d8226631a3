"""One file of an installation on its way here: resumed, bounded by the length that was signed, verified."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from edgeward.durable import PartialFile
from edgeward.protocol.digests import Digest, digest_of_file
from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts.errors import BadDelivery, FetchInterrupted
from edgeward_agent.artifacts.in_thread import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_agent.artifacts.steps import Checkpoint

# From a digest and an offset to the bytes from there on.
Fetch = Callable[[Digest, int], AsyncIterator[bytes]]


class Reception:
    """Receives the files of one installation; `title` names it in errors."""

    def __init__(self, fetch: Fetch, *, title: str) -> None:
        self._fetch = fetch
        self._title = title

    async def receive(
        self, path: Path, digest: Digest, total_bytes: int, passed: Callable[[int], None] = lambda _offset: None
    ) -> None:
        """Get a file into its place, verified; a leftover that turns out to be damaged is fetched again once.

        Args:
            path: Its place; what has arrived waits beside it.
            digest: Its SHA-256.
            total_bytes: Its length; a sender that goes on after that is cut off.
            passed: Called with the number of bytes that are here.

        Raises:
            BadDelivery: What came is something else; nothing of it is kept.
            FetchInterrupted: The bytes stopped coming; what arrived is kept.
        """
        partial = PartialFile(path, digest=digest, total_bytes=total_bytes)
        resumed = await in_thread(_keep_sound, partial, path, digest, total_bytes)
        try:
            await self._download(partial, digest, total_bytes, passed)
        except WireError as error:
            await in_thread(partial.discard)
            if not resumed:
                raise BadDelivery(f"{path.name} of {self._title} arrived damaged: {error}") from error
            await self.receive(path, digest, total_bytes, passed)

    async def _download(
        self, partial: PartialFile, digest: Digest, total_bytes: int, passed: Callable[[int], None]
    ) -> None:
        if partial.is_complete:
            return
        if partial.offset < total_bytes:
            async with AsyncExitStack() as stack:
                pieces = self._fetch(digest, partial.offset)
                if hasattr(pieces, "aclose"):
                    stack.push_async_callback(pieces.aclose)
                async for piece in pieces:
                    if not piece:
                        # Nothing for ever would be an endless download that no length bounds.
                        break
                    passed(await in_thread(_append, partial, piece))
        if partial.offset < total_bytes:
            raise FetchInterrupted(f"{self._title}: {partial.offset} of {total_bytes} bytes came, then no more")
        await in_thread(partial.commit)


class DownloadMarks:
    """Reports the milestones of a download, each once."""

    def __init__(self, checkpoint: Checkpoint, total_bytes: int) -> None:
        self._checkpoint = checkpoint
        self._left = [("download-begun", 1), ("download-half", total_bytes // 2), ("downloaded", total_bytes)]

    def passed(self, offset: int) -> None:
        """So many bytes are here."""
        while self._left and offset >= self._left[0][1]:
            self._checkpoint(self._left.pop(0)[0])


def _keep_sound(partial: PartialFile, path: Path, digest: Digest, total_bytes: int) -> bool:
    """Keep what a former attempt left where it can still become the file; whether anything was kept."""
    if partial.is_complete and digest_of_file(path) != digest:
        path.unlink()
    if partial.offset > total_bytes:
        partial.discard()
    return partial.offset > 0


def _append(partial: PartialFile, piece: bytes) -> int:
    partial.append(partial.offset, piece)
    return partial.offset
