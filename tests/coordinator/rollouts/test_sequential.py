"""Tests that may be looked at after every call."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgeward_coordinator.rollouts.sequential import (
    Arm,
    Comparison,
    Verdict,
    _block_e_value,
    compare,
    comparison_from_json,
    comparison_to_json,
    excess_e_value,
    lower_bound,
)

ALPHA = 0.05
TRIALS, LOOKS = 150, 100


def run(rng: np.random.Generator, old_rate: float, new_rate: float, *, margin: float = 0.0) -> Verdict:
    """Look after every block of a few calls of both, until there is a verdict or it is enough."""
    state, old, new = None, Arm(), Arm()
    for _ in range(LOOKS):
        state = compare(state, old=old, new=new, alpha=ALPHA, margin=margin)
        if state.verdict:
            return state.verdict
        old += draw(rng, old_rate)
        new += draw(rng, new_rate)
    return ""


def draw(rng: np.random.Generator, rate: float) -> Arm:
    """What a second brings: 0 to 12 calls."""
    trials = int(rng.integers(0, 13))
    return Arm(successes=int(rng.binomial(trials, rate)), trials=trials)


def at_most(share: float, trials: int) -> float:
    """How many of `trials` there may be, by chance of 1 in 10,000, where `share` is the truth."""
    return float(stats.binom.ppf(1 - 1e-4, trials, share))


@pytest.mark.parametrize(
    ("old_rate", "new_rate", "margin", "wrong"),
    [
        (0.9, 0.9, 0.0, "better"),
        (0.5, 0.55, 0.0, "worse"),
        (0.9, 0.85, 0.05, "better"),
    ],
)
def test_looking_after_every_block_does_not_raise_the_error(
    old_rate: float, new_rate: float, margin: float, wrong: str
) -> None:
    """Of 150 runs that are stopped at the first verdict no more say what is not so than the level allows."""
    rng = np.random.default_rng(7)
    verdicts = [run(rng, old_rate, new_rate, margin=margin) for _ in range(TRIALS)]
    assert verdicts.count(wrong) <= at_most(ALPHA, TRIALS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old_rate", "new_rate", "margin", "right"),
    [(0.9, 0.7, 0.0, "worse"), (0.7, 0.9, 0.0, "better"), (0.95, 0.95, 0.08, "better"), (0.99, 0.9, 0.0, "worse")],
)
def test_real_difference_is_found(old_rate: float, new_rate: float, margin: float, right: str) -> None:
    """In more than 9 of 10 runs of 600 calls each."""
    rng = np.random.default_rng(11)
    verdicts = [run(rng, old_rate, new_rate, margin=margin) for _ in range(30)]
    assert verdicts.count(right) >= 27  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [0.0, -0.1])
@pytest.mark.parametrize("guess", [(0.9, 0.95), (0.3, 0.9), (0.5, 0.45), (0.99, 0.2)])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("sign", [1, -1])
def test_block_is_an_e_variable(sign: int, sizes: tuple[int, int], guess: tuple[float, float], offset: float) -> None:
    """Under every pair of rates of the null its expectation, over all outcomes, is at most 1."""
    for old_rate, new_rate in itertools.product(np.linspace(0.02, 0.98, 13), repeat=2):
        if sign * (new_rate - old_rate - offset) > 0:
            continue
        expectation = sum(
            stats.binom.pmf(olds, sizes[0], old_rate)
            * stats.binom.pmf(news, sizes[1], new_rate)
            * _block_e_value(
                Arm(successes=olds, trials=sizes[0]),
                Arm(successes=news, trials=sizes[1]),
                guess,
                offset=offset,
                sign=sign,
            )
            for olds in range(sizes[0] + 1)
            for news in range(sizes[1] + 1)
        )
        assert expectation <= 1 + 1e-9


def test_first_totals_are_where_it_begins() -> None:
    """What came before is not tested: an old version's years of calls say nothing of today."""
    history = Arm(successes=10, trials=1_000_000)
    state = compare(None, old=history, new=Arm(), alpha=ALPHA)
    assert state.old == state.new == Arm()


def test_same_totals_again_change_nothing() -> None:
    """A look without news is no evidence."""
    state = compare(None, old=Arm(), new=Arm(), alpha=ALPHA)
    old, new = Arm(successes=5, trials=9), Arm(successes=4, trials=9)
    once = compare(state, old=old, new=new, alpha=ALPHA)
    assert compare(once, old=old, new=new, alpha=ALPHA) == once


def test_calls_of_one_version_wait_for_those_of_the_other() -> None:
    """They come in at different times; none is lost."""
    state = compare(None, old=Arm(), new=Arm(), alpha=ALPHA)
    state = compare(state, old=Arm(successes=5, trials=5), new=Arm(), alpha=ALPHA)
    state = compare(state, old=Arm(successes=5, trials=5), new=Arm(successes=1, trials=3), alpha=ALPHA)
    assert (state.old, state.new) == (Arm(successes=5, trials=5), Arm(successes=1, trials=3))


def test_verdict_stays() -> None:
    """The first crossing decides, whatever comes after it."""
    state = Comparison(old_read=Arm(), new_read=Arm(), blocks=3, worse=50.0, verdict="worse")
    later = compare(state, old=Arm(successes=1, trials=100), new=Arm(successes=100, trials=100), alpha=ALPHA)
    assert later.verdict == "worse"


_arms = st.builds(Arm, successes=st.integers(-3, 500), trials=st.integers(-3, 500))


@given(st.lists(st.tuples(_arms, _arms), max_size=20), st.floats(0, 0.5))
def test_any_totals_leave_a_state(totals: list[tuple[Arm, Arm]], margin: float) -> None:
    """Totals that shrink, or can't be, raise nothing and leave numbers that JSON can hold."""
    state = None
    for old, new in totals:
        state = compare(state, old=old, new=new, alpha=ALPHA, margin=margin)
        assert state.worse >= 0
        assert state.better >= 0
        assert comparison_from_json(json.loads(json.dumps(comparison_to_json(state), allow_nan=False))) == state


def test_one_rate_against_a_limit_may_be_looked_at_after_every_call() -> None:
    """Of 2,000 versions exactly at their limit of 2 %, watched for 500 calls, no more than 1 % are ever stopped."""
    rng = np.random.default_rng(3)
    events = np.cumsum(rng.random((2000, 500)) < 0.02, axis=1)
    reach = {(k, n): excess_e_value(k, n, 0.02) >= 100 for n in range(1, 501) for k in range(60)}
    stopped = sum(any(reach[int(k), n + 1] for n, k in enumerate(row)) for row in events[:, :])
    assert stopped <= at_most(0.01, 2000)


@pytest.mark.parametrize(
    ("events", "trials", "limit", "is_over"),
    [
        (1, 3, 0.01, False),
        (1, 1, 0.01, False),
        (2, 2, 0.01, True),
        (30, 400, 0.01, True),
        (4, 400, 0.01, False),
        (0, 10**9, 0.01, False),
        (1, 10**9, 0.0, True),
        (5, 5, 1.0, False),
    ],
)
def test_excess_needs_more_than_chance(events: int, trials: int, limit: float, *, is_over: bool) -> None:
    """One error in three calls is no proof against a limit of 1 %; two in two are."""
    assert (excess_e_value(events, trials, limit) >= 100) == is_over


@pytest.mark.parametrize(("successes", "trials"), [(90, 100), (3, 3), (0, 10), (999, 1000), (40, 1000)])
def test_lower_bound_is_no_higher_than_the_exact_one(successes: int, trials: int) -> None:
    """Chernoff's bound is never tighter than Clopper and Pearson's."""
    exact = stats.beta.ppf(ALPHA, successes, trials - successes + 1) if successes else 0.0
    bound = lower_bound(Arm(successes=successes, trials=trials), ALPHA)
    assert 0 <= bound <= exact + 1e-9
    assert exact - bound < 0.2


def test_rate_of_nothing_is_unknown() -> None:
    """Nan rather than a made-up number."""
    assert math.isnan(Arm().rate)
