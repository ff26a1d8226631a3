"""How fast downloads may go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.reconcile.pace import Pace


def test_without_a_limit_nothing_waits() -> None:
    """However much comes."""
    pace = Pace(None, now=0.0)
    assert pace.take(1 << 30, 0.0) == 0.0


def test_a_pause_earns_one_second_and_no_more() -> None:
    """A device that was quiet for a day does not take the link for an hour."""
    pace = Pace(1000, now=0.0)
    assert pace.take(1000, 86_400.0) == 0.0
    assert pace.take(1000, 86_400.0) == 1.0


@given(
    rate=st.integers(1, 1 << 20),
    pieces=st.lists(st.tuples(st.integers(1, 1 << 16), st.floats(0, 10)), min_size=1, max_size=50),
)
def test_the_rate_is_kept_over_any_time(rate: int, pieces: list[tuple[int, float]]) -> None:
    """Who waits as told takes no more than the rate, a second's worth and the last piece."""
    pace = Pace(rate, now=0.0)
    now, total = 0.0, 0
    for count, idle_s in pieces:
        now += idle_s + pace.take(count, now + idle_s)
        total += count
        assert total <= rate * (now + 1.0) * (1 + 1e-9) + 1e-6
