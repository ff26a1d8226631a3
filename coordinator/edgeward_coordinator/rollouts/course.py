"""What an event makes of a rollout, beyond the state that the table names: phases that begin and end; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.rollouts.rollout import PhaseRecord
from edgeward_coordinator.rollouts.transitions import RolloutEvent, next_state

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from edgeward_coordinator.rollouts.rollout import Rollout

# Whether the present phase has passed, for the events that end it.
_ENDS_PHASE = {
    RolloutEvent.PHASE_PASSED: True,
    RolloutEvent.PROMOTE: True,
    RolloutEvent.FINISHED: True,
    RolloutEvent.GATE_FAILED: False,
    RolloutEvent.ABORT: False,
    RolloutEvent.ROLL_BACK: False,
}


def follow(rollout: Rollout, events: Iterable[RolloutEvent], *, reason: str, now: datetime) -> Rollout:
    """The rollout after these events.

    Raises:
        NotAllowed: One of them can't happen where it is then.
    """
    for event in events:
        rollout = _after(rollout, event, reason=reason, now=now)
    return rollout


def begin(rollout: Rollout, *, from_version: int | None, now: datetime) -> Rollout:
    """Let a queued rollout begin, in place of the version that the group runs now.

    Raises:
        FailedPrecondition: There is nothing to do, or nothing to compare with.
    """
    if from_version == rollout.to_version:
        raise FailedPrecondition(
            f"group {rollout.group!r} runs {rollout.model}:{rollout.to_version} already",
            hint="edgeward deployments list shows what every group runs",
        )
    beside = next((phase for phase in rollout.plan.phases if phase.mode != "serve"), None)
    if from_version is None and beside is not None:
        raise FailedPrecondition(
            f"phase {beside.name!r} runs {rollout.model}:{rollout.to_version} beside another version,"
            f" and group {rollout.group!r} runs none",
            hint="leave that phase out of the plan, or deploy a first version",
        )
    return follow(replace(rollout, from_version=from_version), [RolloutEvent.START], reason="", now=now)


def _after(rollout: Rollout, event: RolloutEvent, *, reason: str, now: datetime) -> Rollout:
    state = next_state(rollout.state, event)
    phase, records = rollout.phase, list(rollout.phases)
    if event in _ENDS_PHASE and records[phase].started_at is not None and records[phase].ended_at is None:
        records[phase] = replace(records[phase], ended_at=now, passed=_ENDS_PHASE[event])
    if event in {RolloutEvent.PHASE_PASSED, RolloutEvent.PROMOTE} and phase + 1 < len(records):
        phase += 1
        records[phase] = PhaseRecord(started_at=now)
    if event in {RolloutEvent.START, RolloutEvent.RESUME}:
        # After a pause the phase's time begins anew: what was judged is judged again.
        records[phase] = replace(records[phase], started_at=now)
    if event is RolloutEvent.RETURNED:
        reason = f"{rollout.reason}; {reason}"  # why it went back is what people will ask
    return replace(
        rollout,
        state=state,
        reason=reason,
        phase=phase,
        phases=tuple(records),
        changed_at=now,
        ended_at=now if state.is_over else None,
    )
