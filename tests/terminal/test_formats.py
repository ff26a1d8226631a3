"""Numbers and instants as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from edgeward_server.terminal.formats import (
    format_age,
    format_bytes,
    format_duration,
    format_instant,
    format_latency,
    format_pairs,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (1 << 60, "1048576.0 TiB")],
)
def test_bytes_are_shown_in_their_largest_unit(count: int, text: str) -> None:
    """Units are powers of 1024."""
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(math.nan, "-"), (0, "-"), (85e-6, "85 µs"), (1.25e-3, "1.25 ms"), (2.1, "2.10 s")]
)
def test_a_latency_is_shown_in_its_unit(seconds: float, text: str) -> None:
    """What was not measured is a dash."""
    assert format_latency(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (1_047_600, "12 d 3 h")]
)
def test_a_duration_is_shown_with_two_units_at_most(seconds: float, text: str) -> None:
    """Precision where it matters."""
    assert format_duration(timedelta(seconds=seconds)) == text


def test_an_instant_is_shown_in_utc_to_the_second() -> None:
    """The same on every machine."""
    assert format_instant(datetime(2026, 1, 1, 12, tzinfo=UTC)) == "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(("offset_s", "text"), [(-30, "30.0 s ago"), (90, "in 1 min 30 s")])
def test_an_age_tells_past_from_future(offset_s: int, text: str) -> None:
    """An expiry lies ahead, a last sighting behind."""
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert format_age(now + timedelta(seconds=offset_s), now=now) == text


def test_labels_are_sorted() -> None:
    """The same labels look the same."""
    assert format_pairs({"b": "2", "a": "1"}) == "a=1,b=2"
