"""Jittered exponential backoff."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edgeward_agent.backoff import Backoff, BackoffLimits


@given(seed=st.integers(), failures=st.integers(1, 2000))
def test_waits_grow_up_to_the_maximum_and_no_further(seed: int, failures: int) -> None:
    """Each wait lies between half of its limit and the whole."""
    backoff = Backoff(BackoffLimits(initial_s=0.5, maximum_s=60), rng=Random(seed))
    for failure in range(failures):
        limit = min(0.5 * 2 ** min(failure, 40), 60)
        assert limit / 2 <= backoff.next_wait_s() <= limit
    assert backoff.failures == failures


def test_success_begins_anew() -> None:
    """The next failure waits as the first did."""
    backoff = Backoff(BackoffLimits(initial_s=0.5, maximum_s=60), rng=Random(1))
    for _ in range(10):
        backoff.next_wait_s()
    backoff.reset()
    assert backoff.next_wait_s() <= 0.5


def test_a_fleet_does_not_come_back_together() -> None:
    """1000 devices that lost the coordinator at one moment spread over half of the limit."""
    waits = [Backoff(BackoffLimits(initial_s=8, maximum_s=60), rng=Random(seed)).next_wait_s() for seed in range(1000)]
    buckets = [sum(4 + i / 2 <= wait < 4.5 + i / 2 for wait in waits) for i in range(8)]
    assert min(buckets) > 80
