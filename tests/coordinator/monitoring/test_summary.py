"""What a batch adds to the sums."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.errors import WireError
from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    LabelWindow,
    PredictionWindow,
    ResourceSample,
    TelemetryRecord,
    encode_batch,
)
from edgeward_coordinator.monitoring.summary import add_summaries, summarize_batch

_AT = datetime(2026, 1, 1, tzinfo=UTC)

_counts = st.integers(0, 2**40)
_names = st.sampled_from(["a", "b", "digits"])
_latencies = st.builds(
    lambda counts, zeros, sum_s: LatencyHistogram(counts=Counter(counts), zeros=zeros, sum_s=sum_s),
    st.dictionaries(st.integers(-512, 512), st.integers(1, 2**40), max_size=5),
    _counts,
    st.integers(0, 2**40).map(float),
)
_windows = st.builds(
    PredictionWindow,
    model=_names,
    version=st.integers(0, 3),
    flavor=_names,
    since=st.just(_AT),
    until=st.just(_AT),
    predictions=_counts,
    calls=_counts,
    errors=_counts,
    latency=_latencies,
)
_labels = st.integers(0, 2**40).flatmap(
    lambda labelled: st.builds(
        LabelWindow,
        model=_names,
        version=st.integers(0, 3),
        flavor=_names,
        since=st.just(_AT),
        until=st.just(_AT),
        labelled=st.just(labelled),
        correct=st.integers(0, labelled),
    )
)
_comparisons = st.integers(0, 2**40).flatmap(
    lambda rows: st.builds(
        ComparisonWindow,
        model=_names,
        version=st.integers(0, 3),
        candidate_version=st.integers(0, 3),
        candidate_flavor=_names,
        since=st.just(_AT),
        until=st.just(_AT),
        rows=st.just(rows),
        agreed=st.integers(0, rows),
        calls=_counts,
        errors=_counts,
        skipped=_counts,
        latency=_latencies,
    )
)
# Whole numbers, so that sums are exact whatever their order.
_increments = st.builds(
    CounterIncrements, increments=st.dictionaries(_names, st.integers(-(10**12), 10**12).map(float), max_size=3)
)
_events = st.builds(DeviceEvent, kind=_names, detail=st.dictionaries(_names, _names, max_size=2))
_samples = st.builds(ResourceSample, resident_bytes=_counts, cpu_s=st.floats(0, 1e6), disk_free_bytes=_counts)
_records = st.lists(
    st.builds(
        TelemetryRecord,
        at=st.just(_AT),
        body=st.one_of(_windows, _labels, _comparisons, _increments, _events, _samples),
    ),
    max_size=12,
)


@given(_records, st.integers(0, 12), st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_how_records_are_batched(records: list[TelemetryRecord], cut: int, rng: object) -> None:
    """One batch, or two in either order: the sums are the same."""
    whole = add_summaries([summarize_batch(encode_batch(records))])
    parts = [summarize_batch(encode_batch(records[:cut])), summarize_batch(encode_batch(records[cut:]))]
    assert add_summaries(parts) == whole == add_summaries(reversed(parts))


@given(_records)
def test_a_summary_counts_every_record_and_keeps_every_event(records: list[TelemetryRecord]) -> None:
    """Events with the position that names them within their batch."""
    summary = summarize_batch(encode_batch(records))
    assert summary.records == len(records)
    expected = [(position, each.body) for position, each in enumerate(records) if isinstance(each.body, DeviceEvent)]
    assert [(position, timed.event) for position, timed in summary.events] == expected


@given(st.binary(max_size=500))
def test_arbitrary_bytes_raise_the_one_error(payload: bytes) -> None:
    """And are never taken for a batch."""
    with pytest.raises(WireError):
        summarize_batch(payload)
