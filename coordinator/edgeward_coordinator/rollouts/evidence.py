"""What is known of a rollout when its gates are judged: sums over devices, and counts of devices. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward_coordinator.rollouts.rollout import DeviceState


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEvidence:
    """What one version answered on the admitted devices (the new one: since they were admitted)."""

    calls: int = 0
    predictions: int = 0
    errors: int = 0
    labelled: int = 0
    correct: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowEvidence:
    """The new version as a shadow beside the old, on the admitted devices since they were admitted."""

    rows: int = 0
    agreed: int = 0
    calls: int = 0
    errors: int = 0
    skipped: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it. `devices` counts the admitted devices by state."""

    new: VersionEvidence
    old: VersionEvidence
    shadow: ShadowEvidence
    devices: Mapping[DeviceState, int]

    def count(self, *states: DeviceState) -> int:
        """How many of the admitted devices are in one of these states."""
        return sum(self.devices.get(state, 0) for state in states)
