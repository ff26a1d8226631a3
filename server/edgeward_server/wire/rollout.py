"""The messages of rollouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import deployment_pb2
from edgeward_coordinator.rollouts import DeviceState, describe_phase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from edgeward_coordinator.rollouts import GateResult, PhaseRecord, Rollout, RolloutDevice, RolloutView


def rollout_to_message(view: RolloutView) -> deployment_pb2.Rollout:
    """To its message."""
    rollout = view.rollout
    return deployment_pb2.Rollout(
        id=rollout.id,
        model=rollout.model,
        group=rollout.group,
        from_version=rollout.from_version or 0,
        to_version=rollout.to_version,
        state=rollout.state.value,
        reason=rollout.reason,
        phase=rollout.phase,
        phases=[_phase_to_message(rollout, index, view.counts) for index in range(len(rollout.phases))],
        created_at=timestamp_from_instant(rollout.created_at),
        created_by=rollout.created_by,
        changed_at=timestamp_from_instant(rollout.changed_at),
        ended_at=_timestamp(rollout.ended_at),
        devices=[_device_to_message(device) for device in view.devices],
        plan_toml=rollout.plan_toml,
        group_devices=view.group_devices,
    )


def _phase_to_message(
    rollout: Rollout, index: int, counts: Mapping[tuple[int, DeviceState], int]
) -> deployment_pb2.RolloutPhase:
    phase, record = rollout.plan.phases[index], rollout.phases[index]
    has_begun = record.started_at is not None
    # Those that this phase and the ones before it have admitted.
    selected = {key: number for key, number in counts.items() if has_begun and key[0] <= index}

    def count(*states: DeviceState) -> int:
        return sum(number for (_, state), number in selected.items() if state in states)

    return deployment_pb2.RolloutPhase(
        name=phase.name,
        mode=phase.mode,
        state=_state_of(record),
        started_at=_timestamp(record.started_at),
        ended_at=_timestamp(record.ended_at),
        selected=sum(selected.values()),
        updating=count(DeviceState.UPDATING),
        on_probation=count(DeviceState.PROBATION),
        succeeded=count(DeviceState.SUCCEEDED),
        failed=count(*(state for state in DeviceState if state.has_failed)),
        offline=count(DeviceState.OFFLINE),
        gates=[_gate_to_message(gate) for gate in record.gates],
        description=describe_phase(phase),
    )


def _state_of(record: PhaseRecord) -> str:
    if record.passed is None:
        return "waiting" if record.started_at is None else "running"
    return "passed" if record.passed else "failed"


def _gate_to_message(gate: GateResult) -> deployment_pb2.RolloutGate:
    return deployment_pb2.RolloutGate(
        name=gate.name,
        state=gate.state.value,
        value=gate.value,
        limit=gate.limit,
        evidence=gate.evidence,
        evidence_needed=gate.evidence_needed,
        text=gate.text,
    )


def _device_to_message(device: RolloutDevice) -> deployment_pb2.RolloutDevice:
    return deployment_pb2.RolloutDevice(
        device_id=device.device_id,
        name=device.name,
        phase=device.phase,
        state=device.state.value,
        error=device.error,
        changed_at=timestamp_from_instant(device.changed_at),
    )


def _timestamp(instant: datetime | None) -> Timestamp | None:
    return None if instant is None else timestamp_from_instant(instant)
