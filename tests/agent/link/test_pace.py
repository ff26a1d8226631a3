"""Slow is allowed, dripping is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.errors import Interrupted
from edgeward_agent.link.pace import Pace


def make_pace() -> Pace:
    """256 bytes/s over 5 minutes."""
    return Pace(least_bytes_per_s=256, window_s=300)


def test_a_byte_a_minute_ends_after_the_window() -> None:
    """Not before: the first window may have a hole in it."""
    pace = make_pace()
    for _ in range(5):
        pace.note(1, waited_s=59)
    with pytest.raises(Interrupted, match=r"only drips: 0.0 bytes/s over 354 s, and at least 256 are wanted"):
        pace.note(1, waited_s=59)


def test_a_good_beginning_buys_no_endless_end() -> None:
    """Each window is judged alone."""
    pace = make_pace()
    pace.note(100 << 20, waited_s=301)
    with pytest.raises(Interrupted):
        pace.note(1, waited_s=301)


def test_a_receiver_that_takes_its_time_blames_nobody() -> None:
    """Only waiting for the other side counts."""
    pace = make_pace()
    for _ in range(1000):
        pace.note(1, waited_s=0.0)


@given(st.lists(st.integers(min_value=1, max_value=59), min_size=1, max_size=200))
def test_whoever_keeps_the_rate_is_never_ended(waits_s: list[int]) -> None:
    """In whatever pieces it comes."""
    pace = make_pace()
    for waited_s in waits_s:
        pace.note(256 * waited_s, waited_s=waited_s)
