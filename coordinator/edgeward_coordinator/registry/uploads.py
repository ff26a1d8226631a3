"""Uploads on their way in: part files in the scratch folder, resumable across a restart, one sender at a time.

A part file is named by the digest of the whole, so it does not matter who goes
on with it. Within the process a digest is claimed by one sender; a claim that
dies with the process needs no clean-up.
"""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from edgeward.durable import PartialFile
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest

# What nobody went on with for so long is dropped, or abandoned uploads would fill the disk.
_FORGET_AFTER: Final = timedelta(days=7)


class Uploads:
    """The part files of one coordinator.

    Args:
        folder: Theirs alone; made if missing.
        max_bytes: The most that one upload may announce.
        reserve_bytes: How much of the disk uploads must leave free.
        clock: The instant now; compared with the files' times.
    """

    def __init__(self, folder: Path, *, max_bytes: int, reserve_bytes: int, clock: Callable[[], datetime]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._guard = threading.Lock()
        self._claimed: set[Digest] = set()

    @contextmanager
    def claim(self, digest: Digest) -> Iterator[None]:
        """Be the one who sends this artifact, from before it is opened until it is finished or given up.

        Touches no disk, so it may be taken on an event loop.

        Raises:
            Unavailable: Somebody else sends it now.
        """
        with self._guard:
            if digest in self._claimed:
                raise Unavailable(
                    f"{digest[:12]} is being uploaded over another connection",
                    hint="try again when that one has ended; the upload goes on where it stopped",
                )
            self._claimed.add(digest)
        try:
            yield
        finally:
            with self._guard:
                self._claimed.discard(digest)

    def open(self, digest: Digest, total_bytes: int) -> PartialFile:
        """The reception of `total_bytes` that make `digest`; its `offset` says where the sender goes on.

        Raises:
            InvalidArgument: Empty, or more than may be uploaded.
            FailedPrecondition: The disk has no room for it.
        """
        if not 0 < total_bytes <= self._max_bytes:
            raise InvalidArgument(
                f"an upload has 1 to {self._max_bytes} bytes, not {total_bytes}",
                hint="check that this is the file you mean" if total_bytes else "the file is empty: make it again",
            )
        self._forget_abandoned()
        partial = PartialFile(self._folder / digest, digest=digest, total_bytes=total_bytes)
        if partial.offset > total_bytes:
            # One of two announcements was wrong; the digest decides in the end.
            partial.discard()
        self._verify_room(total_bytes - partial.offset)
        return partial

    def remove(self, digest: Digest) -> None:
        """Forget the finished file."""
        (self._folder / digest).unlink(missing_ok=True)

    def _verify_room(self, missing_bytes: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if missing_bytes + self._reserve_bytes > free:
            raise FailedPrecondition(
                f"the coordinator's disk has {free >> 20} MiB free, too little for {missing_bytes >> 20} MiB more "
                f"and a reserve of {self._reserve_bytes >> 20} MiB",
                hint="make room on it; the upload goes on where it stopped",
            )

    def _forget_abandoned(self) -> None:
        limit = self._clock() - _FORGET_AFTER
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # finished meanwhile
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < limit:
                    path.unlink()
