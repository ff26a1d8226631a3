"""What devices report of their work: stored exactly once, summed as it comes."""

from edgeward_coordinator.monitoring.sums import DeviceTotals, Envelope, ModelTotals, TimedEvent
from edgeward_coordinator.monitoring.telemetry import Telemetry

__all__ = ["DeviceTotals", "Envelope", "ModelTotals", "Telemetry", "TimedEvent"]
