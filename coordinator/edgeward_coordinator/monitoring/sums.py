"""What comes in, and what it is summed to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward.protocol.latency import LatencyHistogram
    from edgeward.protocol.telemetry import DeviceEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A sealed batch as it arrives; with the device, `epoch` and `sequence` name it for ever."""

    epoch: str
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTotals:
    """All that one flavor of a version answered on one device; `predictions` counts rows, `latency` is of calls."""

    model: str
    version: int
    flavor: str
    predictions: int
    calls: int
    errors: int
    latency: LatencyHistogram


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
