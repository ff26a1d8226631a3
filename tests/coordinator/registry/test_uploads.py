"""Artifacts: in resumably and one sender at a time, out from any offset."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.errors import WireError
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from edgeward_coordinator.registry import Registry
from tests.registrations import upload

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.durable import PartialFile
    from edgeward_coordinator.storage import BlobStore, Database

DATA = bytes(range(256)) * 4000
DIGEST = digest_of(DATA)


def begin(registry: Registry, total_bytes: int = len(DATA)) -> PartialFile:
    """Of an artifact that is not here yet."""
    partial = registry.begin_upload(DIGEST, total_bytes)
    assert partial is not None
    return partial


def test_what_went_in_comes_out(registry: Registry) -> None:
    """An uploaded artifact can be read back, from any offset on."""
    upload(registry, DATA)
    assert registry.artifact_bytes(DIGEST) == len(DATA)
    assert b"".join(registry.open_artifact(DIGEST)) == DATA
    assert b"".join(registry.open_artifact(DIGEST, 300_001)) == DATA[300_001:]
    assert b"".join(registry.open_artifact(DIGEST, len(DATA))) == b""


def test_upload_goes_on_after_a_restart(
    registry: Registry, database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    """A coordinator that was killed in the middle asks for the rest only."""
    begin(registry).append(0, DATA[:1000])
    restarted = Registry(database, blobs, tmp_path / "scratch")
    partial = begin(restarted)
    assert partial.offset == 1000
    partial.append(1000, DATA[1000:])
    restarted.finish_upload(partial, DIGEST)
    assert b"".join(restarted.open_artifact(DIGEST)) == DATA


def test_upload_that_was_verified_and_not_registered_goes_on(
    registry: Registry, database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    """Killed between the verification and the row, nothing has to be sent again."""
    partial = begin(registry)
    partial.append(0, DATA)
    partial.commit()
    restarted = Registry(database, blobs, tmp_path / "scratch")
    again = begin(restarted)
    assert again.offset == len(DATA)
    restarted.finish_upload(again, DIGEST)
    assert restarted.artifact_bytes(DIGEST) == len(DATA)


def test_finishing_leaves_no_scratch_and_may_be_repeated(registry: Registry, tmp_path: Path) -> None:
    """The scratch file goes when the artifact is registered; who asks again gets the same artifact."""
    upload(registry, DATA)
    assert list((tmp_path / "scratch" / "uploads").iterdir()) == []
    assert registry.begin_upload(DIGEST, len(DATA)) is None
    upload(registry, DATA)
    assert b"".join(registry.open_artifact(DIGEST)) == DATA


def test_artifact_whose_blob_was_lost_can_be_uploaded_again(registry: Registry, tmp_path: Path) -> None:
    """A row without its bytes does not keep them from coming back."""
    upload(registry, DATA)
    next((tmp_path / "objects").rglob(DIGEST)).unlink()
    upload(registry, DATA)
    assert b"".join(registry.open_artifact(DIGEST)) == DATA


def test_damaged_bytes_are_refused_and_forgotten(registry: Registry) -> None:
    """What does not hash to its name never becomes an artifact, and the next attempt starts over."""
    partial = begin(registry)
    partial.append(0, DATA[:-1] + b"?")
    with pytest.raises(WireError, match="damaged on the way"):
        registry.finish_upload(partial, DIGEST)
    with pytest.raises(NotFound):
        registry.artifact_bytes(DIGEST)
    assert begin(registry).offset == 0


def test_two_senders_of_one_artifact_take_turns(registry: Registry) -> None:
    """The second is told to try again, and finds what the first has sent."""
    with registry.claim_upload(DIGEST):
        begin(registry).append(0, DATA[:10])
        with pytest.raises(Unavailable, match="over another connection"), registry.claim_upload(DIGEST):
            pass
    with registry.claim_upload(DIGEST):
        assert begin(registry).offset == 10


def test_claim_ends_with_an_error(registry: Registry) -> None:
    """A sender that broke off blocks nobody."""
    with pytest.raises(OSError, match="gone"), registry.claim_upload(DIGEST):
        raise OSError("gone")
    with registry.claim_upload(DIGEST):
        pass


@pytest.mark.parametrize("total_bytes", [0, 101], ids=["empty", "too large"])
def test_length_is_bounded(database: Database, blobs: BlobStore, tmp_path: Path, total_bytes: int) -> None:
    """An upload that announces nothing, or more than is allowed, does not begin."""
    registry = Registry(database, blobs, tmp_path / "small", max_upload_bytes=100)
    with pytest.raises(InvalidArgument, match=f"1 to 100 bytes, not {total_bytes}"):
        registry.begin_upload(DIGEST, total_bytes)


def test_full_disk_is_told_before_the_first_byte(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    """The message says how much is free, and what to do."""
    registry = Registry(database, blobs, tmp_path / "full", reserve_bytes=1 << 60)
    with pytest.raises(FailedPrecondition, match="MiB free, too little") as refused:
        registry.begin_upload(DIGEST, len(DATA))
    assert "make room" in refused.value.hint


def test_wrong_length_of_a_known_artifact_is_refused(registry: Registry) -> None:
    """A digest has one length."""
    upload(registry, DATA)
    with pytest.raises(InvalidArgument, match=f"has {len(DATA)} bytes, not 5"):
        registry.begin_upload(DIGEST, 5)


def test_longer_rest_of_another_announcement_is_dropped(registry: Registry) -> None:
    """Where two senders announced different lengths, the shorter starts over."""
    begin(registry, 5000).append(0, DATA[:5000])
    assert begin(registry, 100).offset == 0


def test_abandoned_uploads_are_forgotten(registry: Registry, database: Database, tmp_path: Path) -> None:
    """What nobody went on with for a week gives its disk back; what is younger stays."""
    begin(registry).append(0, DATA[:10])
    (part,) = (tmp_path / "scratch" / "uploads").iterdir()
    other = digest_of(b"other")
    for age, remains in ((timedelta(days=6), True), (timedelta(days=8), False)):
        at = (database.clock() - age).timestamp()
        os.utime(part, (at, at))
        registry.begin_upload(other, 5)
        assert part.exists() is remains


def test_offset_past_the_end_is_refused(registry: Registry) -> None:
    """A reader that asks for bytes that do not exist learns how many do."""
    upload(registry, DATA)
    with pytest.raises(InvalidArgument, match=f"has {len(DATA)} bytes"):
        registry.open_artifact(DIGEST, len(DATA) + 1)


def test_unknown_artifact_is_said_at_once(registry: Registry) -> None:
    """Opening fails, not the first piece."""
    with pytest.raises(NotFound, match=DIGEST[:12]):
        registry.open_artifact(DIGEST)


def test_local_file_becomes_an_artifact(registry: Registry, tmp_path: Path) -> None:
    """What the coordinator made itself is stored under its digest."""
    path = tmp_path / "made"
    path.write_bytes(DATA)
    assert registry.store_artifact(path) == (DIGEST, len(DATA))
    assert b"".join(registry.open_artifact(DIGEST)) == DATA


def test_announced_length_of_a_verified_upload_is_not_believed(registry: Registry) -> None:
    """An artifact has the length of its bytes, whatever the attempt that registers it announced."""
    partial = begin(registry)
    partial.append(0, DATA)
    partial.commit()
    registry.finish_upload(begin(registry, len(DATA) - 1), DIGEST)
    assert registry.artifact_bytes(DIGEST) == len(DATA)
    assert b"".join(registry.open_artifact(DIGEST)) == DATA
