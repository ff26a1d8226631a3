"""What a batch adds to the sums; pure.

A batch counts as a whole or not at all: one number that can't be (not finite,
out of every measure) makes all of it unreadable, since who wrote that wrote the
rest too. The bounds keep a broken or hostile device from spoiling the sums or
filling the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.errors import WireError
from edgeward.protocol.latency import SCALE, merge_histograms
from edgeward.protocol.telemetry import CounterIncrements, DeviceEvent, PredictionWindow, decode_batch
from edgeward_coordinator.monitoring.sums import ModelTotals, TimedEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeward.protocol.latency import LatencyHistogram

ModelKey = tuple[str, int, str]

MAX_SUM = 2**63 - 1

_MAX_COUNT = 2**40
_MAX_INCREMENT = 1e15
_MAX_VERSION = 2**31 - 1
_MAX_KEYS = 1000
# 2^-64 to 2^64 seconds.
_MAX_BUCKET = 64 * 2**SCALE
_MODEL_CHARACTERS, _FLAVOR_CHARACTERS, _NAME_CHARACTERS, _DETAIL_CHARACTERS = 128, 64, 64, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """What one batch, or several together, add; `events` with their position in the batch."""

    records: int
    models: Mapping[ModelKey, ModelTotals]
    counters: Mapping[str, float]
    events: tuple[tuple[int, TimedEvent], ...] = ()


def summarize_batch(payload: bytes) -> BatchSummary:
    """Open a batch and add it up.

    Raises:
        WireError: It does not decode, or holds what can't be.
    """
    records = decode_batch(payload)
    models: dict[ModelKey, ModelTotals] = {}
    counters: dict[str, float] = {}
    events: list[tuple[int, TimedEvent]] = []
    for position, record in enumerate(records):
        match record.body:
            case PredictionWindow() as window:
                _verify_window(window)
                _add_totals(models, _totals_of(window))
            case CounterIncrements(increments=increments):
                for name, value in increments.items():
                    _verify_increment(name, value)
                    counters[name] = counters.get(name, 0.0) + value
            case DeviceEvent() as event:
                _verify_event(event)
                events.append((position, TimedEvent(at=record.at, event=event)))
            case _:
                pass  # resource samples are kept in the batch only
    if len(models) > _MAX_KEYS or len(counters) > _MAX_KEYS:
        raise WireError(
            f"a telemetry batch of {len(models)} models and {len(counters)} counters; {_MAX_KEYS} are believed"
        )
    return BatchSummary(records=len(records), models=models, counters=counters, events=tuple(events))


def add_summaries(summaries: Iterable[BatchSummary]) -> tuple[dict[ModelKey, ModelTotals], dict[str, float]]:
    """The sums over several batches, of models and of counters."""
    models: dict[ModelKey, ModelTotals] = {}
    counters: dict[str, float] = {}
    for summary in summaries:
        for totals in summary.models.values():
            _add_totals(models, totals)
        for name, value in summary.counters.items():
            counters[name] = counters.get(name, 0.0) + value
    return models, counters


def add_totals(one: ModelTotals, other: ModelTotals) -> ModelTotals:
    """The sum of two totals of the same flavor; stays at what the tables hold rather than fail beyond."""
    return ModelTotals(
        model=one.model,
        version=one.version,
        flavor=one.flavor,
        predictions=min(one.predictions + other.predictions, MAX_SUM),
        calls=min(one.calls + other.calls, MAX_SUM),
        errors=min(one.errors + other.errors, MAX_SUM),
        latency=merge_histograms([one.latency, other.latency]),
    )


def _add_totals(models: dict[ModelKey, ModelTotals], added: ModelTotals) -> None:
    key = (added.model, added.version, added.flavor)
    models[key] = add_totals(models[key], added) if key in models else added


def _totals_of(window: PredictionWindow) -> ModelTotals:
    return ModelTotals(
        model=window.model,
        version=window.version,
        flavor=window.flavor,
        predictions=window.predictions,
        calls=window.calls,
        errors=window.errors,
        latency=window.latency,
    )


def _verify_window(window: PredictionWindow) -> None:
    _verify_text(window.model, _MODEL_CHARACTERS)
    _verify_text(window.flavor, _FLAVOR_CHARACTERS)
    counts = (window.predictions, window.calls, window.errors)
    if window.version > _MAX_VERSION or max(counts) > _MAX_COUNT:
        raise WireError(f"a prediction window of version {window.version} with counts {counts}")
    _verify_latency(window.latency)


def _verify_latency(latency: LatencyHistogram) -> None:
    counts = [latency.zeros, *latency.counts.values()]
    if max(counts) > _MAX_COUNT or any(abs(index) > _MAX_BUCKET for index in latency.counts):
        raise WireError("latency buckets out of every measure")
    _verify_number(latency.sum_s)


def _verify_increment(name: str, value: float) -> None:
    _verify_text(name, _NAME_CHARACTERS)
    _verify_number(value)


def _verify_event(event: DeviceEvent) -> None:
    _verify_text(event.kind, _NAME_CHARACTERS)
    if sum(len(key) + len(value) for key, value in event.detail.items()) > _DETAIL_CHARACTERS:
        raise WireError(f"an event {event.kind!r} with more than {_DETAIL_CHARACTERS} characters of detail")


def _verify_number(value: float) -> None:
    if not math.isfinite(value) or abs(value) > _MAX_INCREMENT:
        raise WireError(f"the number {value} in a telemetry batch")


def _verify_text(text: str, most: int) -> None:
    if not 0 < len(text) <= most or "\0" in text:
        raise WireError(f"{text[:most]!r} as a name in a telemetry batch")
