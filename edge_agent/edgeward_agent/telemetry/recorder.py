"""Counts predictions in memory, by version and flavor, and gives the counts on as windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import PredictionWindow, TelemetryRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@dataclass(slots=True, kw_only=True)
class _Window:
    since: datetime
    predictions: int = 0
    calls: int = 0
    errors: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


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
        self._windows: dict[tuple[str, int, str], _Window] = {}

    def count(self, model: str, version: int, flavor: str, *, rows: int, seconds: float, failed: bool = False) -> None:
        """Count one call: `rows` answered in `seconds`, or failed."""
        key = (model, version, flavor)
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(since=self._clock())
            window.calls += 1
            window.latency.add(seconds)
            if failed:
                window.errors += 1
            else:
                window.predictions += rows

    def flush(self) -> None:
        """Give the windows on; nothing where nothing was counted."""
        # One at a time, so that who comes back from here knows that all that was counted before is given on.
        with self._flushing:
            with self._lock:
                windows, self._windows = self._windows, {}
            until = self._clock()
            for (model, version, flavor), window in windows.items():
                body = PredictionWindow(
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
                self._append(TelemetryRecord(at=until, body=body))
