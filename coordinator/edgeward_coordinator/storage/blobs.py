"""Immutable bytes named by their digest, in a folder or an S3-compatible bucket, through obstore.

A blob is put under its final name only whole and verified: `put_file` streams
from a verified local file, so a reader never sees half of one. Into a folder we
write ourselves: obstore renames without an fsync, so a power cut could leave an
empty file under a digest's name that looks stored for ever.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, S3Store

from edgeward.durable import fsync_folder
from edgeward_coordinator.errors import InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

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
        InvalidArgument: The URL is of another kind, or an option is unknown.
    """

    def __init__(self, url: str, *, options: dict[str, str] | None = None) -> None:
        scheme = urlsplit(url).scheme
        self._store: LocalStore | S3Store
        self._folder: Path | None = None
        if scheme == "":
            self._folder = Path(url)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._folder)
        elif scheme == "s3":
            self._store = _open_bucket(url, options or {})
        else:
            raise InvalidArgument(f"unsupported object store {url!r}", hint="give a folder or an s3:// URL")

    def put_file(self, digest: Digest, path: Path) -> None:
        """Store a verified file under its digest, durably; storing it again changes nothing.

        Raises:
            Unavailable: The store does not answer, or is full.
        """
        try:
            with path.open("rb") as file:
                if self._folder is None:
                    obstore.put(self._store, _key(digest), file)
                else:
                    _write_durably(file, self._folder / _key(digest), root=self._folder)
        except (ObjectStoreError, OSError) as error:
            raise Unavailable(f"the object store did not take {digest[:12]}: {_first_line(error)}") from error

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there.

        Raises:
            Unavailable: The store does not answer.
        """
        try:
            obstore.head(self._store, _key(digest))
        except FileNotFoundError:
            return False
        except ObjectStoreError as error:
            raise Unavailable(f"the object store does not answer: {_first_line(error)}") from error
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
                raise Unavailable(f"the object store does not answer: {_first_line(error)}") from error
            if len(piece) != end - offset:
                raise Unavailable(f"the object store holds only a part of artifact {digest[:12]}")
            yield piece
            offset = end

    def read_whole(self, digest: Digest, *, total_bytes: int) -> bytes:
        """All the bytes; for small blobs."""
        return b"".join(self.read(digest, total_bytes=total_bytes))


def _open_bucket(url: str, options: dict[str, str]) -> S3Store:
    try:
        return S3Store.from_url(url, config=cast("S3Config", options), client_options={"allow_http": True})
    except (ObjectStoreError, ValueError) as error:
        raise InvalidArgument(f"the object store {url!r} can't be opened: {_first_line(error)}") from error


def _write_durably(source: BinaryIO, target: Path, *, root: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            shutil.copyfileobj(source, file, _READ_BYTES)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    for folder in (target.parent, target.parent.parent, root):
        fsync_folder(folder)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _key(digest: Digest) -> str:
    return f"artifacts/{digest[:2]}/{digest}"
