"""What goes first when the outbox is full: the kinds of records by what their loss costs.

    resources     a sample; the next one says nearly the same
    predictions   counts of a minute; a hole in a curve
    counters      sums that nothing else carries, the count of what was dropped among them
    events        each is the only word of what happened

Within a kind the oldest goes first.
"""

from __future__ import annotations

from typing import Literal

from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    LabelWindow,
    PredictionWindow,
    RecordBody,
    ResourceSample,
)

Kind = Literal["resources", "predictions", "counters", "events"]

KINDS: tuple[Kind, ...] = ("resources", "predictions", "counters", "events")

DROPPED = "dropped."  # and the kind: the counter's name


def kind_of(body: RecordBody) -> Kind:
    """The kind of a record."""
    match body:
        case ResourceSample():
            return "resources"
        case PredictionWindow() | LabelWindow() | ComparisonWindow():
            return "predictions"
        case CounterIncrements():
            return "counters"
        case DeviceEvent():
            return "events"


def importance_of(kind: Kind) -> int:
    """0 for what goes first."""
    return KINDS.index(kind)
