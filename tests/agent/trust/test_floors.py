"""Floors as rules and as a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.trust import BUILT_AT, Floor, Floors, Untrusted
from edgeward_agent.trust.floors import decode_floors, encode_floors, lowest_now, raise_floors

AT = datetime(2027, 1, 1, tzinfo=UTC)
A, B = frozenset({"a"}), frozenset({"b"})

floors_strategy = st.builds(
    Floors,
    roles=st.dictionaries(
        st.text(max_size=20),
        st.builds(Floor, version=st.integers(0, 2**63), keys=st.frozensets(st.text(max_size=8), max_size=3)),
        max_size=5,
    ),
    signed_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(floors_strategy)
def test_floors_survive_the_file(floors: Floors) -> None:
    """What is read is what was written."""
    assert decode_floors(encode_floors(floors)) == floors


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 40,
        b"[]",
        b"{}",
        b'{"roles": [], "signed_at": null}',
        b'{"roles": {"root": 3}, "signed_at": null}',
        b'{"roles": {"root": {"version": "x", "keys": []}}, "signed_at": null}',
        b'{"roles": {}, "signed_at": 3}',
        b'{"roles": {}, "signed_at": "2027-01-01"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_a_value_error(data: bytes) -> None:
    """And nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are json's
        decode_floors(data)


@given(floors_strategy, floors_strategy)
def test_no_floor_sinks_while_its_keys_stay(before: Floors, seen: Floors) -> None:
    """Either the metadata is refused, or every role whose keys stayed stands at least as high."""
    try:
        after = raise_floors(before, seen.roles, seen.signed_at)
    except Untrusted:
        return
    for name, floor in before.roles.items():
        now = after.roles[name]
        assert now.version >= floor.version or floor.keys - now.keys


def test_a_lower_version_is_refused_in_words() -> None:
    """With both versions in it."""
    floors = Floors(roles={"snapshot": Floor(version=7, keys=A)})
    with pytest.raises(Untrusted, match="snapshot is version 6, and this device has verified version 7"):
        raise_floors(floors, {"snapshot": Floor(version=6, keys=A | B)}, None)


def test_a_key_that_was_taken_away_takes_its_floor_along() -> None:
    """Else a key that was stolen could end all updates by signing version 2^63."""
    floors = Floors(roles={"timestamp": Floor(version=2**63, keys=A)}, signed_at=AT + timedelta(days=40_000))
    after = raise_floors(floors, {"timestamp": Floor(version=3, keys=B)}, AT)
    assert after == Floors(roles={"timestamp": Floor(version=3, keys=B)}, signed_at=AT)


def test_a_role_that_is_not_mentioned_keeps_its_floor() -> None:
    """A project that was removed can't come back older."""
    floors = Floors(roles={"vision": Floor(version=9, keys=A)})
    after = raise_floors(floors, {"targets": Floor(version=1, keys=A)}, None)
    with pytest.raises(Untrusted, match="vision"):
        raise_floors(after, {"vision": Floor(version=8, keys=A)}, None)


def test_the_signed_instant_never_goes_back() -> None:
    """While the timestamp's keys stay."""
    floors = Floors(roles={"timestamp": Floor(version=1, keys=A)}, signed_at=AT)
    seen = {"timestamp": Floor(version=1, keys=A)}
    assert raise_floors(floors, seen, AT - timedelta(days=1)).signed_at == AT
    assert raise_floors(floors, seen, None).signed_at == AT


@pytest.mark.parametrize(
    ("clock", "signed_at", "now"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), None, BUILT_AT),
        (datetime(1970, 1, 1, tzinfo=UTC), AT, AT),
        (AT + timedelta(days=1), AT, AT + timedelta(days=1)),
    ],
    ids=["build time", "signed time", "clock"],
)
def test_now_is_at_least_what_is_known(clock: datetime, signed_at: datetime | None, now: datetime) -> None:
    """A clock that starts in 1970 is not believed; one that is ahead of what is known is."""
    assert lowest_now(clock, Floors(signed_at=signed_at)) == now
