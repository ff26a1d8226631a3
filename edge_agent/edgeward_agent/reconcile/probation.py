"""Whether a version on probation has proven itself. Pure.

    it can't be loaded where it should serve          back at once
    two processes died while it was at work           back
    five or more calls failed, and too large a share  back
    the time is over, enough was predicted, and the
    share of what failed is small enough              it stays
    else                                              wait

Time is what passed while the agent looked on, by a clock that is never set, added
up over restarts: no jump of the wall clock ends a probation or prolongs it, and
a device that was off has not proven anything meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.protocol.state import ProbationRules

# Fewer are one caller's slip.
LEAST_ERRORS = 5

# One may have been killed by a person in the middle of a call.
LEAST_CRASHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is known of a version on trial; `problem` says why it can't be loaded."""

    elapsed_s: float = 0.0
    predictions: int = 0
    calls: int = 0
    errors: int = 0
    crashes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """It stays."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """It goes; `reason` is for the operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet; `why` says what is missing."""

    why: str


Verdict = Commit | RollBack | Wait


def judge_probation(rules: ProbationRules, progress: Progress) -> Verdict:
    """Judge a version that serves.

    Args:
        rules: Those under which it was activated.
        progress: What is known.
    """
    reason = why_unfit(progress) or _why_wrong(rules, progress)
    if reason:
        return RollBack(reason)
    left_s = rules.duration.total_seconds() - progress.elapsed_s
    if left_s > 0:
        return Wait(f"{left_s:.0f} s are left")
    if progress.predictions < rules.min_predictions:
        return Wait(f"{progress.predictions} of {rules.min_predictions} predictions were asked for")
    if progress.errors > rules.max_error_ratio * progress.calls:
        return Wait(f"{progress.errors} of {progress.calls} calls failed, too many to trust it and too few to judge it")
    return Commit()


def why_unfit(progress: Progress) -> str:
    """Why a version, a candidate too, must go whatever the rules; empty where it may stay."""
    if progress.problem:
        return progress.problem
    if progress.crashes >= LEAST_CRASHES:
        return f"{progress.crashes} processes died while they served it"
    return ""


def _why_wrong(rules: ProbationRules, progress: Progress) -> str:
    errors, calls = progress.errors, max(progress.calls, progress.errors)
    if errors < LEAST_ERRORS or errors <= rules.max_error_ratio * calls:
        return ""
    return f"{errors} of {calls} calls failed ({errors / calls:.1%}); at most {rules.max_error_ratio:.1%} may"
