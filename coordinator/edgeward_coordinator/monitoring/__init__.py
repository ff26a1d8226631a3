"""What devices report of their work: stored exactly once, summed as it comes."""

from edgeward_coordinator.monitoring.sums import ComparisonTotals, DeviceTotals, Envelope, ModelTotals, TimedEvent
from edgeward_coordinator.monitoring.telemetry import Telemetry

__all__ = ["ComparisonTotals", "DeviceTotals", "Envelope", "ModelTotals", "Telemetry", "TimedEvent"]
