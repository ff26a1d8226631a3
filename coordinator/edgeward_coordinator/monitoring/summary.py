"""What a batch adds to the sums; pure.

A batch counts as a whole or not at all: one number that can't be (not finite,
out of every measure) makes all of it unreadable, since who wrote that wrote the
rest too. The bounds keep a broken or hostile device from spoiling the sums or
filling the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.protocol.errors import WireError
from edgeward.protocol.latency import SCALE, merge_histograms
from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    LabelWindow,
    PredictionWindow,
    decode_batch,
)
from edgeward_coordinator.monitoring.sums import ComparisonTotals, ModelTotals, TimedEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.protocol.latency import LatencyHistogram

# Model, version, flavor; and model, version, version and flavor of the candidate.
ModelKey = tuple[str, int, str]
ComparisonKey = tuple[str, int, int, str]

MAX_SUM = 2**63 - 1

_MAX_COUNT = 2**40
_MAX_INCREMENT = 1e15
_MAX_VERSION = 2**31 - 1
_MAX_KEYS = 1000
# 2^-64 to 2^64 seconds.
_MAX_BUCKET = 64 * 2**SCALE
_MODEL_CHARACTERS, _FLAVOR_CHARACTERS, _NAME_CHARACTERS, _DETAIL_CHARACTERS = 128, 64, 64, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What adds up, of one batch or of several."""

    models: dict[ModelKey, ModelTotals] = field(default_factory=dict)
    comparisons: dict[ComparisonKey, ComparisonTotals] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)

    def add(self, other: Sums) -> None:
        """Add what another one holds."""
        for totals in other.models.values():
            self.add_model(totals)
        for comparison in other.comparisons.values():
            self.add_comparison(comparison)
        for name, value in other.counters.items():
            self.add_counter(name, value)

    def add_model(self, totals: ModelTotals) -> None:
        """Add what a flavor answered."""
        key = (totals.model, totals.version, totals.flavor)
        self.models[key] = add_totals(self.models[key], totals) if key in self.models else totals

    def add_comparison(self, totals: ComparisonTotals) -> None:
        """Add what a candidate answered."""
        key = (totals.model, totals.version, totals.candidate_version, totals.candidate_flavor)
        known = self.comparisons.get(key)
        self.comparisons[key] = totals if known is None else add_comparisons(known, totals)

    def add_counter(self, name: str, value: float) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0.0) + value


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """What one batch adds; `events` with their position in the batch."""

    records: int
    sums: Sums
    events: tuple[tuple[int, TimedEvent], ...] = ()


def summarize_batch(payload: bytes) -> BatchSummary:
    """Open a batch and add it up.

    Raises:
        WireError: It does not decode, or holds what can't be.
    """
    records = decode_batch(payload)
    sums = Sums()
    events: list[tuple[int, TimedEvent]] = []
    for position, record in enumerate(records):
        match record.body:
            case PredictionWindow() as window:
                _verify_window(window)
                sums.add_model(_totals_of(window))
            case LabelWindow() as labels:
                _verify_labels(labels)
                sums.add_model(_totals_of_labels(labels))
            case ComparisonWindow() as comparison:
                _verify_comparison(comparison)
                sums.add_comparison(_totals_of_comparison(comparison))
            case CounterIncrements(increments=increments):
                for name, value in increments.items():
                    _verify_increment(name, value)
                    sums.add_counter(name, value)
            case DeviceEvent() as event:
                _verify_event(event)
                events.append((position, TimedEvent(at=record.at, event=event)))
            case _:
                pass  # resource samples are kept in the batch only
    _verify_keys(sums)
    return BatchSummary(records=len(records), sums=sums, events=tuple(events))


def add_summaries(summaries: Iterable[BatchSummary]) -> Sums:
    """The sums over several batches."""
    sums = Sums()
    for summary in summaries:
        sums.add(summary.sums)
    return sums


def add_totals(one: ModelTotals, other: ModelTotals) -> ModelTotals:
    """The sum of two totals of the same flavor; stays at what the tables hold rather than fail beyond."""
    return ModelTotals(
        model=one.model,
        version=one.version,
        flavor=one.flavor,
        predictions=_bounded(one.predictions + other.predictions),
        calls=_bounded(one.calls + other.calls),
        errors=_bounded(one.errors + other.errors),
        latency=merge_histograms([one.latency, other.latency]),
        labelled=_bounded(one.labelled + other.labelled),
        correct=_bounded(one.correct + other.correct),
    )


def add_comparisons(one: ComparisonTotals, other: ComparisonTotals) -> ComparisonTotals:
    """The sum of two totals of the same candidate, bounded likewise."""
    return ComparisonTotals(
        model=one.model,
        version=one.version,
        candidate_version=one.candidate_version,
        candidate_flavor=one.candidate_flavor,
        rows=_bounded(one.rows + other.rows),
        agreed=_bounded(one.agreed + other.agreed),
        calls=_bounded(one.calls + other.calls),
        errors=_bounded(one.errors + other.errors),
        skipped=_bounded(one.skipped + other.skipped),
        latency=merge_histograms([one.latency, other.latency]),
    )


def _bounded(total: int) -> int:
    return min(total, MAX_SUM)


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


def _totals_of_labels(window: LabelWindow) -> ModelTotals:
    return ModelTotals(
        model=window.model,
        version=window.version,
        flavor=window.flavor,
        labelled=window.labelled,
        correct=window.correct,
    )


def _totals_of_comparison(window: ComparisonWindow) -> ComparisonTotals:
    return ComparisonTotals(
        model=window.model,
        version=window.version,
        candidate_version=window.candidate_version,
        candidate_flavor=window.candidate_flavor,
        rows=window.rows,
        agreed=window.agreed,
        calls=window.calls,
        errors=window.errors,
        skipped=window.skipped,
        latency=window.latency,
    )


def _verify_keys(sums: Sums) -> None:
    counts = (len(sums.models), len(sums.comparisons), len(sums.counters))
    if max(counts) > _MAX_KEYS:
        raise WireError(
            f"a telemetry batch of {counts[0]} models, {counts[1]} comparisons and {counts[2]} counters;"
            f" {_MAX_KEYS} of each are believed"
        )


def _verify_window(window: PredictionWindow) -> None:
    _verify_text(window.model, _MODEL_CHARACTERS)
    _verify_text(window.flavor, _FLAVOR_CHARACTERS)
    _verify_counts("prediction", (window.version,), (window.predictions, window.calls, window.errors))
    _verify_latency(window.latency)


def _verify_labels(window: LabelWindow) -> None:
    _verify_text(window.model, _MODEL_CHARACTERS)
    # Who sends labels back may not know which flavor had answered.
    if window.flavor:
        _verify_text(window.flavor, _FLAVOR_CHARACTERS)
    _verify_counts("label", (window.version,), (window.labelled, window.correct))


def _verify_comparison(window: ComparisonWindow) -> None:
    _verify_text(window.model, _MODEL_CHARACTERS)
    _verify_text(window.candidate_flavor, _FLAVOR_CHARACTERS)
    counts = (window.rows, window.agreed, window.calls, window.errors, window.skipped)
    _verify_counts("comparison", (window.version, window.candidate_version), counts)
    _verify_latency(window.latency)


def _verify_counts(what: str, versions: tuple[int, ...], counts: tuple[int, ...]) -> None:
    if max(versions) > _MAX_VERSION or max(counts) > _MAX_COUNT:
        raise WireError(f"a {what} window of version {versions[-1]} with counts {counts}")


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
