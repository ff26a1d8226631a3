"""What comes in, and what it is summed to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward.protocol.telemetry import DeviceEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A sealed batch as it arrives; with the device, `epoch` and `sequence` name it for ever."""

    epoch: str
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTotals:
    """All that one flavor of a version answered on one device; `predictions` counts rows, `latency` is of calls.

    Of the answers whose labels came back, which are `labelled`, `correct` were right.
    """

    model: str
    version: int
    flavor: str
    predictions: int = 0
    calls: int = 0
    errors: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    labelled: int = 0
    correct: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonTotals:
    """All that one candidate answered beside one version on one device.

    Of `rows` compared `agreed` were answered alike; of the candidate's `calls`
    `errors` failed, and `skipped` more were not made.
    """

    model: str
    version: int
    candidate_version: int
    candidate_flavor: str
    rows: int = 0
    agreed: int = 0
    calls: int = 0
    errors: int = 0
    skipped: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTotals:
    """All that a device answered, whatever the model."""

    predictions: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedEvent:
    """Something that happened on a device; `at` is by its own clock."""

    at: datetime
    event: DeviceEvent
