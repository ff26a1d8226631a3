"""The verdict on a version on probation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.state import ProbationRules
from edgeward_agent.reconcile import Commit, Progress, RollBack, Wait, judge_probation

if TYPE_CHECKING:
    from edgeward_agent.reconcile.probation import Verdict

RULES = ProbationRules(duration=timedelta(seconds=60), min_predictions=0, max_error_ratio=0.05)
ASKS_100 = ProbationRules(duration=timedelta(seconds=60), min_predictions=100, max_error_ratio=0.05)


@pytest.mark.parametrize(
    ("rules", "progress", "verdict"),
    [
        (RULES, Progress(), Wait("60 s are left")),
        (RULES, Progress(elapsed_s=59.5, calls=1000, predictions=1000), Wait("0 s are left")),
        (RULES, Progress(elapsed_s=60.0), Commit()),
        (ASKS_100, Progress(elapsed_s=3600.0, predictions=99), Wait("99 of 100 predictions were asked for")),
        (ASKS_100, Progress(elapsed_s=59.0, predictions=100, calls=10), Wait("1 s are left")),
        (ASKS_100, Progress(elapsed_s=60.0, predictions=100, calls=10), Commit()),
        (
            RULES,
            Progress(elapsed_s=1.0, calls=9, errors=7),
            RollBack("7 of 9 calls failed (77.8%); at most 5.0% may"),
        ),
        (RULES, Progress(elapsed_s=1.0, calls=4, errors=4), Wait("59 s are left")),
        (
            RULES,
            Progress(elapsed_s=61.0, calls=4, errors=4),
            Wait("4 of 4 calls failed, too many to trust it and too few to judge it"),
        ),
        (RULES, Progress(elapsed_s=1.0, calls=100, errors=5), Wait("59 s are left")),
        (RULES, Progress(elapsed_s=61.0, calls=100, predictions=95, errors=5), Commit()),
        (
            RULES,
            Progress(elapsed_s=61.0, calls=100, errors=6),
            RollBack("6 of 100 calls failed (6.0%); at most 5.0% may"),
        ),
        (RULES, Progress(elapsed_s=1.0, crashes=1), Wait("59 s are left")),
        (RULES, Progress(elapsed_s=61.0, crashes=1), Commit()),
        (RULES, Progress(elapsed_s=61.0, crashes=2), RollBack("2 processes died while they served it")),
        (RULES, Progress(elapsed_s=61.0, problem="it can't be loaded"), RollBack("it can't be loaded")),
    ],
)
def test_the_verdict(rules: ProbationRules, progress: Progress, verdict: Verdict) -> None:
    """The table of the rule."""
    assert judge_probation(rules, progress) == verdict


COUNTS = st.integers(0, 200)
PROGRESS = st.builds(
    Progress,
    elapsed_s=st.floats(0, 200),
    predictions=COUNTS,
    calls=COUNTS,
    errors=COUNTS,
    crashes=st.integers(0, 3),
)


@given(PROGRESS)
def test_nothing_is_committed_that_fails_too_often_or_too_early(progress: Progress) -> None:
    """Whatever is known."""
    if isinstance(judge_probation(ASKS_100, progress), Commit):
        assert progress.elapsed_s >= 60
        assert progress.predictions >= 100
        assert progress.errors <= 0.05 * progress.calls
        assert progress.crashes < 2


@given(PROGRESS, st.floats(0, 1000))
def test_time_alone_sends_nothing_back(progress: Progress, more_s: float) -> None:
    """Waiting can only end well."""
    before = judge_probation(RULES, progress)
    later = Progress(
        elapsed_s=progress.elapsed_s + more_s,
        predictions=progress.predictions,
        calls=progress.calls,
        errors=progress.errors,
        crashes=progress.crashes,
    )
    assert isinstance(judge_probation(RULES, later), RollBack) == isinstance(before, RollBack)
