"""Blobs, in a folder and in a bucket."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer

from edgeward.protocol.digests import Digest, digest_of
from edgeward_coordinator.errors import InvalidArgument, NotFound, Unavailable
from edgeward_coordinator.storage import BlobStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DATA = bytes(range(256)) * 2500  # three pieces
_DIGEST = digest_of(_DATA)


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """An S3 server with the bucket `fleet`; how to reach it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/fleet", method="PUT")).close()
    yield {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store of each kind in turn."""
    if request.param == "folder":
        return BlobStore(str(tmp_path / "objects"))
    return BlobStore(f"s3://fleet/{tmp_path.name}", options=request.getfixturevalue("bucket"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What is to be stored."""
    path = tmp_path / "artifact"
    path.write_bytes(_DATA)
    return path


def test_what_is_put_is_read(store: BlobStore, file: Path) -> None:
    """All bytes come back, in pieces of bounded size."""
    assert not store.exists(_DIGEST)
    store.put_file(_DIGEST, file)
    assert store.exists(_DIGEST)
    pieces = list(store.read(_DIGEST, total_bytes=len(_DATA)))
    assert max(map(len, pieces)) <= 256 * 1024
    assert b"".join(pieces) == store.read_whole(_DIGEST, total_bytes=len(_DATA)) == _DATA


def test_reading_goes_on_where_it_stopped(store: BlobStore, file: Path) -> None:
    """A download resumes at any byte, and at the end there is nothing more."""
    store.put_file(_DIGEST, file)
    assert b"".join(store.read(_DIGEST, offset=300_001, total_bytes=len(_DATA))) == _DATA[300_001:]
    assert list(store.read(_DIGEST, offset=len(_DATA), total_bytes=len(_DATA))) == []


def test_putting_twice_changes_nothing(store: BlobStore, file: Path) -> None:
    """A coordinator that crashed after it stored a blob stores it again."""
    store.put_file(_DIGEST, file)
    store.put_file(_DIGEST, file)
    assert store.read_whole(_DIGEST, total_bytes=len(_DATA)) == _DATA


def test_an_empty_blob_is_a_blob(store: BlobStore, tmp_path: Path) -> None:
    """Of no bytes."""
    (tmp_path / "empty").touch()
    store.put_file(digest_of(b""), tmp_path / "empty")
    assert store.exists(digest_of(b""))
    assert store.read_whole(digest_of(b""), total_bytes=0) == b""


def test_a_missing_blob_is_not_found(store: BlobStore) -> None:
    """By name."""
    with pytest.raises(NotFound, match="abababababab"):
        store.read_whole(Digest("ab" * 32), total_bytes=5)


def test_a_blob_that_lost_its_end_is_noticed(store: BlobStore, file: Path) -> None:
    """Fewer bytes than the artifact has are never passed on as all of them."""
    store.put_file(_DIGEST, file)
    with pytest.raises(Unavailable, match="only a part"):
        store.read_whole(_DIGEST, total_bytes=len(_DATA) + 1)


def test_nothing_is_left_beside_a_blob(tmp_path: Path, file: Path) -> None:
    """The folder holds whole files under their final names only."""
    BlobStore(str(tmp_path / "objects")).put_file(_DIGEST, file)
    found = [path.name for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert found == [_DIGEST]


def test_a_full_or_broken_folder_is_unavailable(tmp_path: Path, file: Path) -> None:
    """What can't be written is no answer of the artifact's."""
    store = BlobStore(str(tmp_path / "objects"))
    (tmp_path / "objects" / "artifacts").write_text("in the way")
    with pytest.raises(Unavailable, match="did not take"):
        store.put_file(_DIGEST, file)


def test_a_missing_bucket_is_unavailable(bucket: dict[str, str], file: Path) -> None:
    """One sentence, not the debug output of a library."""
    with pytest.raises(Unavailable) as caught:
        BlobStore("s3://elsewhere", options=bucket).put_file(_DIGEST, file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [("ftp://host/x", {}), ("s3://fleet", {"nonsense": "1"})],
    ids=["another-kind", "unknown-option"],
)
def test_what_is_no_store_is_refused(url: str, options: dict[str, str]) -> None:
    """At start, not at the first upload."""
    with pytest.raises(InvalidArgument):
        BlobStore(url, options=options)
