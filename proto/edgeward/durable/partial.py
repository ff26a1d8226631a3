"""A file that is being received: resumable at any byte, verified before it gets its name.

The bytes gather in `<final name>.part`; `commit` checks length and SHA-256,
makes them durable and renames. What a killed receiver leaves is only ever a
`.part`, whose length is where the next attempt goes on.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from edgeward.durable.atomic import fsync_folder
from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.digests import Digest

_BLOCK_BYTES = 1 << 20


class PartialFile:
    """The reception of one file whose digest and length are known before."""

    def __init__(self, final: Path, *, digest: Digest, total_bytes: int) -> None:
        self._final = final
        self._part = final.with_name(final.name + ".part")
        self._digest = digest
        self._total_bytes = total_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the verified file is in place."""
        return self._final.exists()

    @property
    def offset(self) -> int:
        """How many bytes are here, hence where a sender should go on."""
        if self._final.exists():
            return self._total_bytes
        return self._part.stat().st_size if self._part.exists() else 0

    @property
    def missing_bytes(self) -> int:
        """How many bytes have not arrived."""
        return max(0, self._total_bytes - self.offset)

    def append(self, offset: int, data: bytes) -> None:
        """Add a chunk.

        Args:
            offset: Where the chunk starts in the whole; must equal `self.offset`.
            data: The chunk.

        Raises:
            WireError: The chunk leaves a gap, or goes past the announced length (an endless sender).
            OSError: The disk is full; what is here stays and can be resumed.
        """
        have = self.offset
        if offset != have:
            raise WireError(f"chunk starts at byte {offset}, expected byte {have}")
        if have + len(data) > self._total_bytes:
            raise WireError(f"more than the {self._total_bytes} bytes announced for {self._digest[:12]}")
        with self._part.open("ab") as file:
            file.write(data)

    def commit(self) -> Path:
        """Verify and put the file in its place; idempotent.

        Returns:
            The final path.

        Raises:
            WireError: Length or digest differ. The partial file is gone: what it held can't be trusted at any byte.
        """
        if self._final.exists():
            return self._final
        received = self.offset
        if received > self._total_bytes:
            self.discard()  # left by something else under this name; no sender could ever complete it
        if received != self._total_bytes:
            raise WireError(f"{received} of {self._total_bytes} bytes of {self._digest[:12]} arrived")
        if not self._part.exists():
            self._part.touch()
        actual = self._hash_and_sync()
        if actual != self._digest:
            self.discard()
            raise WireError(
                f"SHA-256 is {actual[:12]}…, expected {self._digest[:12]}…: the bytes were damaged on the way"
            )
        self._part.replace(self._final)
        fsync_folder(self._final.parent)
        return self._final

    def discard(self) -> None:
        """Forget what has arrived."""
        self._part.unlink(missing_ok=True)

    def _hash_and_sync(self) -> str:
        hasher = hashlib.sha256()
        with self._part.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                hasher.update(block)
            os.fsync(file.fileno())
        return hasher.hexdigest()
