"""Jittered exponential backoff: how long to wait before the next attempt. Pure.

The limit doubles with each failure up to a maximum and the wait is drawn
between half of the limit and the whole, so that a fleet that lost its
coordinator together does not come back together, and no attempt follows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffLimits:
    """Between which waits the backoff grows."""

    initial_s: float = 0.5
    """Seconds; the limit of the first wait. Short, since most interruptions are a restart."""

    maximum_s: float = 60.0
    """Seconds; the limit of any wait. A fleet of 10,000 then costs its coordinator some 220 attempts a second."""


class Backoff:
    """The waits of one thing that is tried again and again."""

    def __init__(self, limits: BackoffLimits, *, rng: Random) -> None:
        self._limits = limits
        self._rng = rng
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often it failed in a row."""
        return self._failures

    def next_wait_s(self) -> float:
        """Count a failure; the seconds to wait before the next attempt."""
        # 2^40 is past any maximum; the bound keeps the power finite after years of failures.
        limit = min(self._limits.initial_s * 2.0 ** min(self._failures, 40), self._limits.maximum_s)
        self._failures += 1
        return limit * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It succeeded."""
        self._failures = 0
