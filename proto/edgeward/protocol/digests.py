"""SHA-256 digests, the names of artifacts: 64 lower-case hexadecimal digits."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType

from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from pathlib import Path

Digest = NewType("Digest", str)

_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_digest(text: str) -> Digest:
    """Check that `text` is a digest, so that it is safe as a file name too.

    Raises:
        WireError: It is not.
    """
    if _DIGEST.fullmatch(text) is None:
        raise WireError(f"not a SHA-256 digest of 64 hexadecimal digits: {text[:80]!r}")
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    """The digest of bytes in memory."""
    return Digest(hashlib.sha256(data).hexdigest())


def digest_of_file(path: Path) -> Digest:
    """The digest of a file, read in blocks."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
