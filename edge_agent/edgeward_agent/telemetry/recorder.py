"""Counts in memory what a process predicts, compares and is told, and gives the counts on as windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import ComparisonWindow, LabelWindow, PredictionWindow, TelemetryRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from edgeward.protocol.telemetry import RecordBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A candidate beside what serves."""

    model: str
    version: int
    candidate_version: int
    candidate_flavor: str


@dataclass(slots=True, kw_only=True)
class _Predictions:
    since: datetime
    predictions: int = 0
    calls: int = 0
    errors: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(slots=True, kw_only=True)
class _Labels:
    since: datetime
    labelled: int = 0
    correct: int = 0


@dataclass(slots=True, kw_only=True)
class _Comparison:
    since: datetime
    rows: int = 0
    agreed: int = 0
    calls: int = 0
    errors: int = 0
    skipped: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(slots=True, kw_only=True)
class _Windows:
    """All that is open; a version is (model, version, flavor)."""

    predictions: dict[tuple[str, int, str], _Predictions] = field(default_factory=dict)
    labels: dict[tuple[str, int, str], _Labels] = field(default_factory=dict)
    comparisons: dict[Pair, _Comparison] = field(default_factory=dict)


class Recorder:
    """Safe for several threads; counting takes microseconds and never touches the disk.

    A process that is killed loses what was counted since the last `flush`, and nothing else.

    Args:
        append: Takes a record; `Outbox.append`.
        clock: Gives the time.
    """

    def __init__(self, append: Callable[[TelemetryRecord], None], *, clock: Callable[[], datetime]) -> None:
        self._append = append
        self._clock = clock
        self._lock = Lock()
        self._flushing = Lock()
        self._windows = _Windows()

    def count(self, model: str, version: int, flavor: str, *, rows: int, seconds: float, failed: bool = False) -> None:
        """Count one call: `rows` answered in `seconds`, or failed."""
        key = (model, version, flavor)
        with self._lock:
            window = self._windows.predictions.get(key)
            if window is None:
                window = self._windows.predictions[key] = _Predictions(since=self._clock())
            window.calls += 1
            window.latency.add(seconds)
            if failed:
                window.errors += 1
            else:
                window.predictions += rows

    def count_labels(self, model: str, version: int, flavor: str, *, labelled: int, correct: int) -> None:
        """Count labels that came back: of `labelled` answers `correct` were right."""
        key = (model, version, flavor)
        with self._lock:
            window = self._windows.labels.get(key)
            if window is None:
                window = self._windows.labels[key] = _Labels(since=self._clock())
            window.labelled += labelled
            window.correct += correct

    def count_comparison(self, pair: Pair, *, rows: int, agreed: int, seconds: float, failed: bool = False) -> None:
        """Count one call of a candidate on inputs that were answered: `agreed` of `rows` alike, or it failed."""
        with self._lock:
            window = self._comparison(pair)
            window.calls += 1
            window.latency.add(seconds)
            if failed:
                window.errors += 1
            else:
                window.rows += rows
                window.agreed += agreed

    def count_skipped(self, pair: Pair) -> None:
        """Count a call of a candidate that was not made."""
        with self._lock:
            self._comparison(pair).skipped += 1

    def flush(self) -> None:
        """Give the windows on; nothing where nothing was counted."""
        # One at a time, so that who comes back from here knows that all that was counted before is given on.
        with self._flushing:
            with self._lock:
                windows, self._windows = self._windows, _Windows()
            until = self._clock()
            for body in _bodies(windows, until):
                self._append(TelemetryRecord(at=until, body=body))

    def _comparison(self, pair: Pair) -> _Comparison:
        window = self._windows.comparisons.get(pair)
        if window is None:
            window = self._windows.comparisons[pair] = _Comparison(since=self._clock())
        return window


def _bodies(windows: _Windows, until: datetime) -> list[RecordBody]:
    bodies: list[RecordBody] = [
        PredictionWindow(
            model=model,
            version=version,
            flavor=flavor,
            since=window.since,
            until=until,
            predictions=window.predictions,
            calls=window.calls,
            errors=window.errors,
            latency=window.latency,
        )
        for (model, version, flavor), window in windows.predictions.items()
    ]
    bodies += [
        LabelWindow(
            model=model,
            version=version,
            flavor=flavor,
            since=labels.since,
            until=until,
            labelled=labels.labelled,
            correct=labels.correct,
        )
        for (model, version, flavor), labels in windows.labels.items()
    ]
    bodies += [
        ComparisonWindow(
            model=pair.model,
            version=pair.version,
            candidate_version=pair.candidate_version,
            candidate_flavor=pair.candidate_flavor,
            since=comparison.since,
            until=until,
            rows=comparison.rows,
            agreed=comparison.agreed,
            calls=comparison.calls,
            errors=comparison.errors,
            skipped=comparison.skipped,
            latency=comparison.latency,
        )
        for pair, comparison in windows.comparisons.items()
    ]
    return bodies
