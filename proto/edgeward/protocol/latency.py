"""Latency as base-2 exponential buckets, so that histograms of any devices and windows add up.

Bucket i counts values in (base^i, base^(i+1)] with base = 2^(2^-scale), as in
OpenTelemetry's exponential histogram. At scale 3 a bucket is 9 % wide, so a
quantile read from it is within 4.5 % of a value that was there.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SCALE = 3
# Where the smallest and the largest float64 fall; an index outside of this was counted by nobody.
LOWEST_BUCKET, HIGHEST_BUCKET = -1074 * 2**SCALE - 1, 1024 * 2**SCALE - 1


@dataclass(slots=True, kw_only=True)
class LatencyHistogram:
    """Counts of latencies in seconds; the only mutable one of these formats, since it is what is counted into."""

    counts: Counter[int] = field(default_factory=Counter)
    zeros: int = 0
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        if seconds <= 0:
            self.zeros += 1
            return
        self.counts[math.ceil(math.log2(seconds) * 2**SCALE) - 1] += 1
        self.sum_s += seconds

    @property
    def total(self) -> int:
        """How many were counted."""
        return self.zeros + self.counts.total()

    def quantile(self, share: float) -> float:
        """The latency below which `share` (0 to 1) lie: the middle of its bucket, in seconds; nan when empty.

        >>> histogram = LatencyHistogram()
        >>> for ms in range(1, 101): histogram.add(ms / 1000)
        >>> 0.045 < histogram.quantile(0.5) < 0.055
        True
        """
        if not self.total:
            return math.nan
        rank = share * self.total - self.zeros
        if rank <= 0:
            return 0.0
        for index in sorted(self.counts):
            rank -= self.counts[index]
            if rank <= 0:
                return float(2.0 ** ((index + 0.5) / 2**SCALE))
        return float(2.0 ** ((max(self.counts) + 0.5) / 2**SCALE))


def merge_histograms(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """The sum."""
    merged = LatencyHistogram()
    for histogram in histograms:
        merged.counts.update(histogram.counts)
        merged.zeros += histogram.zeros
        merged.sum_s += histogram.sum_s
    return merged
