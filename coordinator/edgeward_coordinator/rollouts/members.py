"""Who takes part: the devices of the group as they are now, and those of them that the rollout has admitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.rollouts.evidence import ShadowEvidence, VersionEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward.protocol.state import ReportedModel
    from edgeward_coordinator.rollouts.plan import Mode
    from edgeward_coordinator.rollouts.rollout import DeviceState, Rollout

# How much of what a device answers comes from the new version.
_EXPOSURE: Final[Mapping[Mode, int]] = {"shadow": 0, "ab": 1, "serve": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDevice:
    """A device of the group that is not revoked; `reported` is what it last said of the model."""

    device_id: str
    labels: Mapping[str, str]
    reported: ReportedModel | None
    last_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a device had answered before it was admitted; a version may be rolled out again."""

    new: VersionEvidence = field(default_factory=VersionEvidence)
    old: VersionEvidence = field(default_factory=VersionEvidence)
    shadow: ShadowEvidence = field(default_factory=ShadowEvidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAssignment:
    """What another rollout, which was aborted, had assigned to the device: it gets that back."""

    rollout_id: str
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device as the rollout keeps it.

    `phase` is that in which it was admitted to what it does now; `release` that
    of its assignment, None where it has none (any more). `baseline` is None where
    it had answered nothing.
    """

    device_id: str
    phase: int
    state: DeviceState
    error: str
    admitted_at: datetime
    changed_at: datetime
    release: int | None
    baseline: Baseline | None = None
    former: FormerAssignment | None = None


def mode_of(rollout: Rollout, member: Member) -> Mode:
    """What the member does with the new version."""
    return rollout.plan.phases[member.phase].mode


def takes_part(rollout: Rollout, member: Member) -> bool:
    """Whether the member does as much with the new version as the present phase asks: only then it counts there."""
    if member.release is None:
        return False
    return _EXPOSURE[mode_of(rollout, member)] >= _EXPOSURE[rollout.plan.phases[rollout.phase].mode]
