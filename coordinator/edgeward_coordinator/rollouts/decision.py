"""What a rollout does next, from its gates and its devices: pure, the same for the same arguments.

A phase passes when its devices have settled (those that are still on their way
could not fail it any more), have stayed so for its soak, and every gate is open.
Who is away holds nobody up. Where evidence is missing after `evidence_timeout`
the plan says what happens. A failed gate rolls back at once.

A phase's times count from `PhaseRecord.started_at`, which whoever applies
events sets at START, PHASE_PASSED, PROMOTE and RESUME.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.rollouts.gates import is_settled, judge
from edgeward_coordinator.rollouts.rollout import DeviceState, GateState, RolloutState
from edgeward_coordinator.rollouts.transitions import RolloutEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward_coordinator.rollouts.evidence import Evidence
    from edgeward_coordinator.rollouts.phases import Phase
    from edgeward_coordinator.rollouts.rollout import GateResult, PhaseRecord, Rollout

_SETTLED_AT: Final = "settled_at"
_COMING_BACK: Final = (DeviceState.UPDATING, DeviceState.PROBATION, DeviceState.SUCCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gates as judged now, what to carry to the next judgement, and what happens: `event` is None for nothing."""

    gates: tuple[GateResult, ...]
    memory: Mapping[str, object] | None
    event: RolloutEvent | None = None
    reason: str = ""


def decide(rollout: Rollout, evidence: Evidence, *, now: datetime) -> Decision:
    """What happens next to a rollout that runs, pauses or rolls back; nothing to any other.

    While it pauses a gate may fail, and nothing else happens: a version that turns out bad overnight must not serve on
    because somebody, or missing evidence, has paused its rollout.

    Args:
        rollout: As it is.
        evidence: What is known of the devices that it has admitted.
        now: The time.
    """
    record = rollout.phases[rollout.phase]
    match rollout.state:
        case RolloutState.RUNNING | RolloutState.PAUSED:
            return _judged(rollout, record, evidence, now=now)
        case RolloutState.ROLLING_BACK:
            return _returning(rollout, record, evidence, now=now)
        case _:
            return Decision(gates=record.gates, memory=record.memory)


def _judged(rollout: Rollout, record: PhaseRecord, evidence: Evidence, *, now: datetime) -> Decision:
    phase = rollout.plan.phases[rollout.phase]
    gates, memory = judge(phase, evidence, memory=record.memory)
    settled_at = _settled_at(phase, record, evidence, now=now)
    memory[_SETTLED_AT] = settled_at.isoformat() if settled_at else None
    event, reason = _failure(phase, gates)
    if event is None and rollout.state is RolloutState.RUNNING:
        event, reason = _passing(
            rollout, phase, gates, settled_at=settled_at, started_at=record.started_at or now, now=now
        )
    return Decision(gates=gates, memory=memory, event=event, reason=reason)


def _settled_at(phase: Phase, record: PhaseRecord, evidence: Evidence, *, now: datetime) -> datetime | None:
    """Since when the devices have been settled; a phase that has begun anew soaks anew."""
    if not is_settled(phase, evidence):
        return None
    carried = (record.memory or {}).get(_SETTLED_AT)
    since = datetime.fromisoformat(carried) if isinstance(carried, str) else now
    return max(since, record.started_at or since)


def _failure(phase: Phase, gates: tuple[GateResult, ...]) -> tuple[RolloutEvent | None, str]:
    failed = [gate for gate in gates if gate.state is GateState.FAILED]
    return (RolloutEvent.GATE_FAILED, f"phase {phase.name!r}: {_texts(failed)}") if failed else (None, "")


def _passing(
    rollout: Rollout,
    phase: Phase,
    gates: tuple[GateResult, ...],
    *,
    settled_at: datetime | None,
    started_at: datetime,
    now: datetime,
) -> tuple[RolloutEvent | None, str]:
    pending = [gate for gate in gates if gate.state is GateState.PENDING]
    soaked = settled_at is not None and now - settled_at >= phase.soak
    if soaked and not pending:
        return _passed(rollout), f"phase {phase.name!r} passed: {_texts(gates)}"
    if now - started_at < phase.evidence_timeout:
        return None, ""
    return _inconclusive(rollout, phase, pending or gates, soaked=soaked)


def _inconclusive(
    rollout: Rollout, phase: Phase, unclear: Sequence[GateResult], *, soaked: bool
) -> tuple[RolloutEvent, str]:
    what = "lacks evidence" if soaked else "has not settled and soaked"
    reason = f"phase {phase.name!r} {what} after {phase.evidence_timeout}: {_texts(unclear)}"
    if phase.when_inconclusive == "fail":
        return RolloutEvent.GATE_FAILED, reason
    # That no device has shown it, or that some are still on their way, is nothing to do without.
    if phase.when_inconclusive == "pass" and soaked and all(gate.name != "install" for gate in unclear):
        return _passed(rollout), f"{reason}; the plan lets it pass"
    return RolloutEvent.EVIDENCE_MISSING, reason


def _returning(rollout: Rollout, record: PhaseRecord, evidence: Evidence, *, now: datetime) -> Decision:
    """Back when nobody who is there has the new version any more; who does not come back is not awaited for ever."""
    left = evidence.count(*_COMING_BACK)
    patience = rollout.plan.phases[rollout.phase].device_timeout
    # Of one that had succeeded the phase ended long before it was rolled back.
    is_over = now - max(record.ended_at or rollout.changed_at, rollout.changed_at) >= patience
    event, reason = (RolloutEvent.RETURNED, _returned_text(evidence, left)) if is_over or not left else (None, "")
    return Decision(gates=record.gates, memory=record.memory, event=event, reason=reason)


def _returned_text(evidence: Evidence, left: int) -> str:
    away = evidence.count(DeviceState.OFFLINE, DeviceState.SILENT)
    texts = [f"{evidence.count(DeviceState.RETURNED)} devices run what they ran before"]
    texts += [f"{away} are away and return when they are back"] * bool(away)
    texts += [f"{left} are there and still report the new version"] * bool(left)
    return "; ".join(texts)


def _passed(rollout: Rollout) -> RolloutEvent:
    is_last = rollout.phase == len(rollout.plan.phases) - 1
    return RolloutEvent.FINISHED if is_last else RolloutEvent.PHASE_PASSED


def _texts(gates: Sequence[GateResult]) -> str:
    return "; ".join(f"{gate.name}: {gate.text}" for gate in gates)
