"""Tests of `edgeward.protocol.latency`."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.latency import HIGHEST_BUCKET, LOWEST_BUCKET, LatencyHistogram, merge_histograms
from edgeward.protocol.telemetry import latency_from_message, latency_to_message

LATENCIES = st.lists(st.floats(1e-7, 1e4), min_size=1, max_size=50)


def histogram_of(latencies: list[float]) -> LatencyHistogram:
    """Count them all."""
    histogram = LatencyHistogram()
    for seconds in latencies:
        histogram.add(seconds)
    return histogram


@given(LATENCIES, st.floats(0.01, 1))
def test_quantile_is_near_a_value_that_was_there(latencies: list[float], share: float) -> None:
    """A quantile is within half a bucket (4.5 %) of the value of that rank."""
    rank = max(math.ceil(share * len(latencies)), 1)
    true = sorted(latencies)[rank - 1]
    assert histogram_of(latencies).quantile(share) == pytest.approx(true, rel=0.046)


@given(LATENCIES, LATENCIES)
def test_sum_of_histograms_is_the_histogram_of_all(left: list[float], right: list[float]) -> None:
    """Windows and devices add up, in any order."""
    merged = merge_histograms([histogram_of(left), histogram_of(right)])
    whole = histogram_of(left + right)
    assert (merged.counts, merged.zeros, merged.total) == (whole.counts, whole.zeros, len(left) + len(right))
    assert merged.sum_s == pytest.approx(whole.sum_s)
    assert merge_histograms([histogram_of(right), histogram_of(left)]).counts == whole.counts


def test_nothing_has_no_quantile() -> None:
    """An empty histogram answers nan, not zero."""
    assert math.isnan(LatencyHistogram().quantile(0.5))


def test_zero_and_less_count_as_zeros() -> None:
    """A clock that stood still or went back is counted, not lost."""
    histogram = histogram_of([0.0, -1.0, 1.0])
    assert (histogram.total, histogram.zeros, histogram.sum_s) == (3, 2, 1.0)
    assert histogram.quantile(0.5) == 0.0


@pytest.mark.parametrize("seconds", [5e-324, sys.float_info.max])
def test_any_float_has_a_bucket_that_the_wire_takes(seconds: float) -> None:
    """The bounds that a decoder believes hold every latency that can be counted, and each has a finite middle."""
    histogram = histogram_of([seconds])
    (index,) = histogram.counts
    assert index in {LOWEST_BUCKET, HIGHEST_BUCKET}
    assert latency_from_message(latency_to_message(histogram)) == histogram
    assert math.isfinite(histogram.quantile(0.5))
