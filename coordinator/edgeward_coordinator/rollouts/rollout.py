"""A rollout, its phases and its devices: what is kept of them, and where they can be.

Values only; how they change is `transitions`, `progress`, `gates` and `decision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward_coordinator.rollouts.plan import Plan


class RolloutState(StrEnum):
    """Where a rollout is."""

    QUEUED = "queued"  # another one of the same model and group goes first
    RUNNING = "running"
    PAUSED = (
        "paused"  # nobody is admitted, no phase passes; who has begun goes on, and a gate that fails still rolls back
    )
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"  # the group's deployment is the new version
    ROLLED_BACK = "rolled_back"  # every device that is not away runs what it ran before
    ABORTED = "aborted"  # stopped where it was; devices that had succeeded keep the new version

    @property
    def is_over(self) -> bool:
        """Whether nothing happens any more by itself."""
        return self in {RolloutState.SUCCEEDED, RolloutState.ROLLED_BACK, RolloutState.ABORTED}


class DeviceState(StrEnum):
    """Where a device is in a rollout that has admitted it."""

    OFFLINE = "offline"  # away since before it was admitted: does not block, follows when it comes back
    UPDATING = "updating"
    PROBATION = "probation"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # it says so itself: refused, failed its check, went back to its former version
    SILENT = "silent"  # took the version and was not heard of since, for too long
    STUCK = "stuck"  # is heard of and does not get there
    RETURNED = "returned"  # runs its former version again, because the rollout was rolled back

    @property
    def has_failed(self) -> bool:
        """Whether it counts against the rollout."""
        return self in {DeviceState.FAILED, DeviceState.SILENT, DeviceState.STUCK}


class GateState(StrEnum):
    """What a gate says."""

    OPEN = "open"  # it holds, on enough evidence
    PENDING = "pending"  # it has not failed, and there is not enough evidence yet
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate as it was judged last; `text` says it in one line for people."""

    name: str  # "install" | "errors" | "latency" | "accuracy" | "silence" | "agreement" | "ab"
    state: GateState
    value: float
    limit: float
    evidence: float
    evidence_needed: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRecord:
    """What has happened in one phase; `passed` is None until it has ended.

    `memory` is what the gates of the phase carry from one judgement to the next
    (the running test of an "ab" phase), as JSON.
    """

    started_at: datetime | None = None
    ended_at: datetime | None = None
    passed: bool | None = None
    gates: tuple[GateResult, ...] = ()
    memory: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The gradual change of one group's deployment of one model.

    `from_version` is None where the group ran none; `phase` is an index into
    `plan.phases` and `phases`; `revision` grows with each change.
    """

    id: str
    model: str
    group: str
    from_version: int | None
    to_version: int
    plan: Plan
    plan_toml: str
    state: RolloutState
    reason: str
    phase: int
    phases: tuple[PhaseRecord, ...]
    revision: int
    created_at: datetime
    created_by: str
    changed_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    """A device that a rollout has admitted; `phase` is that in which it was."""

    device_id: str
    name: str
    phase: int
    state: DeviceState
    error: str
    admitted_at: datetime
    changed_at: datetime
