"""Tests of `edgeward.durable`."""

from __future__ import annotations

import itertools
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.durable import PartialFile, write_atomic
from edgeward.protocol import WireError
from edgeward.protocol.digests import digest_of

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 4


def partial(path: Path, data: bytes = DATA) -> PartialFile:
    """The reception of `data` at `path`."""
    return PartialFile(path, digest=digest_of(data), total_bytes=len(data))


@given(data=st.binary(max_size=500), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_arrives_whole_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    """Each piece may be written by another process; the file has its name only at the end."""
    path = tmp_path_factory.mktemp("partial") / "file"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(edges):
        receiver = partial(path, data)
        assert receiver.offset == start
        assert not receiver.is_complete
        receiver.append(start, data[start:end])
        assert not path.exists()
    assert partial(path, data).commit() == path
    assert path.read_bytes() == data
    assert sorted(path.parent.iterdir()) == [path]


def test_commit_twice_changes_nothing(tmp_path: Path) -> None:
    """An answer that was lost is asked for again."""
    receiver = partial(tmp_path / "file")
    receiver.append(0, DATA)
    assert receiver.commit() == receiver.commit()
    assert receiver.is_complete
    assert receiver.offset == len(DATA)


@pytest.mark.parametrize("offset", [1, 9, 11, 1024])
def test_gap_or_overlap_is_refused(tmp_path: Path, offset: int) -> None:
    """A chunk that doesn't start where the last ended is not written."""
    receiver = partial(tmp_path / "file")
    receiver.append(0, DATA[:10])
    with pytest.raises(WireError, match=f"starts at byte {offset}, expected byte 10"):
        receiver.append(offset, DATA[offset : offset + 5])
    assert receiver.offset == 10


def test_endless_sender_is_stopped(tmp_path: Path) -> None:
    """No byte past the announced length reaches the disk."""
    receiver = partial(tmp_path / "file")
    receiver.append(0, DATA[:-1])
    with pytest.raises(WireError, match="more than the 1024 bytes"):
        receiver.append(len(DATA) - 1, b"xx")
    assert receiver.offset == len(DATA) - 1


def test_short_file_is_not_committed_and_can_go_on(tmp_path: Path) -> None:
    """Too early a commit loses nothing."""
    receiver = partial(tmp_path / "file")
    receiver.append(0, DATA[:10])
    with pytest.raises(WireError, match="10 of 1024 bytes"):
        receiver.commit()
    receiver.append(10, DATA[10:])
    assert receiver.commit().read_bytes() == DATA


def test_corrupt_file_is_discarded(tmp_path: Path) -> None:
    """What has another digest never gets the name, and the next attempt starts from nothing."""
    receiver = partial(tmp_path / "file")
    receiver.append(0, DATA[:-1] + b"\0")
    with pytest.raises(WireError, match="SHA-256"):
        receiver.commit()
    assert list(tmp_path.iterdir()) == []
    receiver.append(0, DATA)
    assert receiver.commit().read_bytes() == DATA


def test_leftover_of_something_longer_is_discarded(tmp_path: Path) -> None:
    """A longer leftover under the same name does not block the reception for ever."""
    longer = partial(tmp_path / "file", DATA * 2)
    longer.append(0, DATA + b"x")
    receiver = partial(tmp_path / "file")
    with pytest.raises(WireError):
        receiver.commit()
    assert receiver.offset == 0


def test_empty_file_arrives(tmp_path: Path) -> None:
    """Nothing is something too."""
    assert partial(tmp_path / "file", b"").commit().read_bytes() == b""


@given(old=st.binary(max_size=50), new=st.binary(max_size=50))
def test_write_atomic_replaces(tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes) -> None:
    """The new content is there, under a new inode, and nothing else is left."""
    path = tmp_path_factory.mktemp("atomic") / "file"
    write_atomic(path, old)
    with path.open("rb") as reader:
        write_atomic(path, new)
        assert reader.read() == old
    assert path.read_bytes() == new
    assert list(path.parent.iterdir()) == [path]


def test_write_atomic_keeps_a_secret_from_its_first_byte(tmp_path: Path) -> None:
    """The mode holds whatever the umask."""
    previous = os.umask(0)
    try:
        write_atomic(tmp_path / "key", b"secret", mode=0o600)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_write_atomic_that_fails_leaves_the_old(tmp_path: Path) -> None:
    """The target can't be replaced: it stays, and so does no temporary file."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError, match="target"):
        write_atomic(target, b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
