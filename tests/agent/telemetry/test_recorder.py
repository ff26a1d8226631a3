"""Tests of `edgeward_agent.telemetry.recorder`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward.protocol.telemetry import PredictionWindow
from edgeward_agent.telemetry import Recorder

if TYPE_CHECKING:
    from edgeward.protocol.telemetry import TelemetryRecord
    from tests.conftest import SetClock


def windows_of(records: list[TelemetryRecord]) -> list[PredictionWindow]:
    """What the records say."""
    return [record.body for record in records if isinstance(record.body, PredictionWindow)]


def test_calls_become_one_window_a_version(clock: SetClock) -> None:
    """Rows, calls, errors and latencies are summed by model, version and flavor."""
    records: list[TelemetryRecord] = []
    recorder = Recorder(records.append, clock=clock)
    recorder.count("digits", 1, "onnx-int8", rows=3, seconds=0.25)
    recorder.count("digits", 1, "onnx-int8", rows=5, seconds=0.5)
    recorder.count("digits", 1, "onnx-int8", rows=7, seconds=0.25, failed=True)
    recorder.count("digits", 2, "onnx-int8", rows=1, seconds=0.25)
    recorder.flush()
    first, second = windows_of(records)
    assert (first.version, first.predictions, first.calls, first.errors) == (1, 8, 3, 1)
    assert (first.latency.total, first.latency.sum_s) == (3, 1.0)
    assert (second.version, second.predictions, second.calls, second.errors) == (2, 1, 1, 0)


def test_window_spans_from_its_first_call_to_the_flush(clock: SetClock) -> None:
    """Idle time before a call belongs to no window."""
    records: list[TelemetryRecord] = []
    recorder = Recorder(records.append, clock=clock)
    start = clock.now
    clock.advance(timedelta(hours=1))
    recorder.count("digits", 1, "onnx-int8", rows=1, seconds=0.1)
    clock.advance(timedelta(seconds=30))
    recorder.flush()
    (window,) = windows_of(records)
    assert (window.since, window.until) == (start + timedelta(hours=1), start + timedelta(hours=1, seconds=30))
    assert records[0].at == window.until


def test_what_was_given_on_is_not_given_again(clock: SetClock) -> None:
    """A second flush gives only what came after the first."""
    records: list[TelemetryRecord] = []
    recorder = Recorder(records.append, clock=clock)
    recorder.count("digits", 1, "onnx-int8", rows=1, seconds=0.1)
    recorder.flush()
    recorder.flush()
    assert len(records) == 1


def test_no_call_is_lost_or_doubled_between_threads(clock: SetClock) -> None:
    """Threads that count while others flush add up to what was counted."""
    records: list[TelemetryRecord] = []
    recorder = Recorder(records.append, clock=clock)

    def count_many(worker: int) -> None:
        for call in range(500):
            recorder.count("digits", 1, "onnx-int8", rows=2, seconds=0.001)
            if call % 50 == worker:
                recorder.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_many, range(8)))
    recorder.flush()
    assert sum(window.calls for window in windows_of(records)) == 4000
    assert sum(window.predictions for window in windows_of(records)) == 8000
    assert sum(window.latency.total for window in windows_of(records)) == 4000
