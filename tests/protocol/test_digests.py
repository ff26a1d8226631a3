"""Tests of `edgeward.protocol.digests` and `edgeward.protocol.instants`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.digests import digest_of, digest_of_file, parse_digest
from edgeward.protocol.instants import instant_from_timestamp, timestamp_from_instant
from tests.protocol.strategies import INSTANTS

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@given(data=st.binary(max_size=100))
def test_digest_is_sha256(tmp_path: Path, data: bytes) -> None:
    """Of bytes in memory and of a file alike, and it parses as one."""
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert parse_digest(digest_of(data)) == digest_of_file(tmp_path / "file") == expected


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "ab" * 32 + "\n", "../" + "a" * 61, "ab" * 33, "é" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    """A digest is a file's name too, so nothing else passes for one."""
    with pytest.raises(WireError, match="not a SHA-256 digest"):
        parse_digest(text)


@given(INSTANTS)
def test_instants_round_trip(instant: datetime) -> None:
    """To the microsecond."""
    assert instant_from_timestamp(timestamp_from_instant(instant)) == instant


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_timestamp_raises_only_the_wire_error(seconds: int, nanos: int) -> None:
    """A foreign clock can be set to anything."""
    try:
        instant = instant_from_timestamp(Timestamp(seconds=seconds, nanos=nanos))
    except WireError:
        return
    assert instant.tzinfo is not None
