"""Tests of `edgeward_agent.artifacts.refusals`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.digests import Digest
from edgeward_agent.artifacts.refusals import (
    MAX_REFUSALS,
    Refusal,
    decode_refusals,
    encode_refusals,
    find_refusal,
    with_refusal,
)
from tests.protocol.damage import damaged
from tests.protocol.strategies import COUNTS, DIGESTS, INSTANTS, TEXT

REFUSALS = st.lists(
    st.builds(Refusal, version=COUNTS, digest=DIGESTS, release=COUNTS, reason=TEXT, at=INSTANTS), max_size=MAX_REFUSALS
).map(tuple)
DIGEST = Digest("ab" * 32)


def refusal(version: int, *, release: int = 1, reason: str = "wrong numbers") -> Refusal:
    """One of a version."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Refusal(version=version, digest=DIGEST, release=release, reason=reason, at=at)


@given(REFUSALS)
def test_round_trip(refusals: tuple[Refusal, ...]) -> None:
    """What was written is what is read after a restart."""
    assert decode_refusals(encode_refusals(refusals)) == refusals


@given(st.binary(max_size=200) | damaged([encode_refusals((refusal(1), refusal(2)))]))
def test_arbitrary_bytes_raise_only_the_wire_error(content: bytes) -> None:
    """A file that a power cut left in any state is readable or a WireError."""
    try:
        refusals = decode_refusals(content)
    except WireError:
        return
    assert decode_refusals(encode_refusals(refusals)) == refusals


def test_endless_reason_is_cut() -> None:
    """A runtime that writes a novel does not fill the flash card."""
    (read,) = decode_refusals(encode_refusals((refusal(1, reason="x" * 10**6),)))
    assert len(read.reason) == 1000


def test_newest_are_kept() -> None:
    """The file does not grow with the years."""
    refusals: tuple[Refusal, ...] = ()
    for version in range(100):
        refusals = with_refusal(refusals, refusal(version))
    assert [kept.version for kept in refusals] == list(range(100 - MAX_REFUSALS, 100))


def test_same_artifact_is_remembered_once() -> None:
    """What was said last of an artifact counts."""
    refusals = with_refusal((refusal(1), refusal(2)), refusal(1, release=5, reason="slow"))
    assert [(kept.version, kept.release, kept.reason) for kept in refusals] == [(2, 1, "wrong numbers"), (1, 5, "slow")]


def test_first_reason_under_a_release_is_kept() -> None:
    """Who is turned away by a refusal and says so does not hide why."""
    refusals = (refusal(1, reason="7 of 9 calls failed"),)
    assert with_refusal(refusals, refusal(1, reason="was refused here: 7 of 9 calls failed")) == refusals


@pytest.mark.parametrize(("release", "found"), [(6, False), (7, True), (8, False)], ids=["older", "same", "newer"])
def test_another_release_is_another_try(release: int, *, found: bool) -> None:
    """The operator has decided anew; nor does a release of 2^63 refuse a version for good."""
    assert (find_refusal((refusal(3, release=7),), 3, DIGEST, release=release) is not None) is found


def test_other_artifact_is_not_refused() -> None:
    """Neither another version nor another flavor of the same."""
    refusals = (refusal(3, release=7),)
    assert find_refusal(refusals, 4, DIGEST, release=0) is None
    assert find_refusal(refusals, 3, Digest("cd" * 32), release=0) is None
