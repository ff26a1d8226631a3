"""Immutable bytes named by their digest, in a folder or an S3-compatible bucket, through obstore.

A blob is put under its final name only whole and verified: `put_file` streams
from a verified local file, so a reader never sees half of one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, S3Store

from edgeward_coordinator.errors import InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import S3Config

    from edgeward.protocol.digests import Digest

_READ_BYTES = 256 * 1024


class BlobStore:
    """The artifacts' bytes.

    Args:
        url: A folder's path, or `s3://bucket/prefix` (credentials and endpoint from `options`,
            else from the usual AWS_* variables).
        options: Passed to obstore: `endpoint`, `access_key_id`, `region`, …

    Raises:
        InvalidArgument: The URL is of another kind.
    """

    def __init__(self, url: str, *, options: dict[str, str] | None = None) -> None:
        scheme = urlsplit(url).scheme
        self._store: LocalStore | S3Store
        if scheme == "":
            folder = Path(url)
            folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(folder, mkdir=True)
        elif scheme == "s3":
            self._store = S3Store.from_url(
                url, config=cast("S3Config", options or {}), client_options={"allow_http": True}
            )
        else:
            raise InvalidArgument(f"unsupported object store {url!r}", hint="give a folder or an s3:// URL")

    def put_file(self, digest: Digest, path: Path) -> None:
        """Store a verified file under its digest; storing it again changes nothing."""
        try:
            with path.open("rb") as file:
                obstore.put(self._store, _key(digest), file)
        except ObjectStoreError as error:
            raise Unavailable(f"the object store did not take {digest[:12]}: {error}") from error

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        try:
            obstore.head(self._store, _key(digest))
        except FileNotFoundError:
            return False
        except ObjectStoreError as error:
            raise Unavailable(f"the object store does not answer: {error}") from error
        return True

    def read(self, digest: Digest, *, offset: int = 0, total_bytes: int) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces of at most 256 KiB.

        Raises:
            NotFound: No such blob.
            Unavailable: The store does not answer.
        """
        while offset < total_bytes:
            end = min(offset + _READ_BYTES, total_bytes)
            try:
                piece = bytes(obstore.get_range(self._store, _key(digest), start=offset, end=end))
            except FileNotFoundError as error:
                raise NotFound(f"no artifact {digest[:12]} in the object store") from error
            except ObjectStoreError as error:
                raise Unavailable(f"the object store does not answer: {error}") from error
            yield piece
            offset = end

    def read_whole(self, digest: Digest, *, total_bytes: int) -> bytes:
        """All the bytes; for small blobs."""
        return b"".join(self.read(digest, total_bytes=total_bytes))


def _key(digest: Digest) -> str:
    return f"artifacts/{digest[:2]}/{digest}"
