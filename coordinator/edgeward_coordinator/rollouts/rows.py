"""Rows as values, and values as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward_coordinator.fleet.documents import reported_model_from_document
from edgeward_coordinator.fleet.labels import combined_labels
from edgeward_coordinator.rollouts.documents import (
    baseline_from_document,
    former_from_document,
    history_to_document,
    phases_from_document,
    phases_to_document,
)
from edgeward_coordinator.rollouts.members import GroupDevice, Member
from edgeward_coordinator.rollouts.plan import plan_from_json
from edgeward_coordinator.rollouts.rollout import DeviceState, Rollout, RolloutDevice, RolloutState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.state import ReportedModel


def changing_values(rollout: Rollout) -> dict[str, Any]:
    """What of a rollout can change, as columns."""
    return {
        "from_version": rollout.from_version,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "phase": rollout.phase,
        "phases": phases_to_document(rollout.phases),
        "revision": rollout.revision,
        "changed_at": rollout.changed_at,
        "ended_at": rollout.ended_at,
    }


def rollout_from_row(row: Mapping[Any, Any]) -> Rollout:
    """A rollout."""
    return Rollout(
        id=row["id"],
        model=row["model"],
        group=row["group_name"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        plan=plan_from_json(row["plan"]),
        plan_toml=row["plan_toml"],
        state=RolloutState(row["state"]),
        reason=row["reason"],
        phase=row["phase"],
        phases=phases_from_document(row["phases"]),
        revision=row["revision"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        changed_at=row["changed_at"],
        ended_at=row["ended_at"],
    )


def group_device_from_row(row: Mapping[Any, Any], model: str) -> GroupDevice:
    """A device of the group; without labels where they were not asked for."""
    return GroupDevice(
        device_id=row["id"],
        labels=combined_labels(row["own_labels"], row["set_labels"]) if "own_labels" in row else {},
        reported=_reported_model(row["reported"], model),
        last_seen=row["last_seen_at"],
    )


def _reported_model(document: dict[str, Any] | None, model: str) -> ReportedModel | None:
    models = document["models"] if document else []
    return next((reported_model_from_document(each) for each in models if each["model"] == model), None)


def row_of_member(rollout_id: str, member: Member) -> dict[str, Any]:
    """A member, as columns."""
    return {
        "rollout_id": rollout_id,
        "device_id": member.device_id,
        "phase": member.phase,
        "state": member.state.value,
        "error": member.error,
        "baseline": history_to_document(member),
        "admitted_at": member.admitted_at,
        "changed_at": member.changed_at,
    }


def member_from_row(row: Mapping[Any, Any]) -> Member:
    """A member."""
    return Member(
        device_id=row["device_id"],
        phase=row["phase"],
        state=DeviceState(row["state"]),
        error=row["error"],
        admitted_at=row["admitted_at"],
        changed_at=row["changed_at"],
        release=row["release"],
        baseline=baseline_from_document(row["baseline"]),
        former=former_from_document(row["baseline"]),
    )


def device_from_row(row: Mapping[Any, Any]) -> RolloutDevice:
    """A member as people are shown it."""
    return RolloutDevice(
        device_id=row["device_id"],
        name=row["name"],
        phase=row["phase"],
        state=DeviceState(row["state"]),
        error=row["error"],
        admitted_at=row["admitted_at"],
        changed_at=row["changed_at"],
    )
