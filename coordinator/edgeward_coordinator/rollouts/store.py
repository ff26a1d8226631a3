"""The rows of rollouts and of the devices that they have admitted.

A rollout is written by whoever names the revision that it read; all that belongs
to it is written in the same transaction. So of several coordinators that look at
the same time one writes, and the others look again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, insert, select, update

from edgeward_coordinator.deployment import store as deployment_store
from edgeward_coordinator.deployment.assignment import Assignment
from edgeward_coordinator.monitoring.store import (
    select_comparisons,
    select_version_totals,
    sum_comparisons,
    sum_version_totals,
)
from edgeward_coordinator.rollouts.members import FormerAssignment, Member, mode_of
from edgeward_coordinator.rollouts.plan import plan_to_json
from edgeward_coordinator.rollouts.rollout import DeviceState, Rollout, RolloutState
from edgeward_coordinator.rollouts.rows import (
    changing_values,
    device_from_row,
    group_device_from_row,
    member_from_row,
    rollout_from_row,
    row_of_member,
)
from edgeward_coordinator.rollouts.tally import Answers, baseline
from edgeward_coordinator.storage import insert_into, next_generation, schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from edgeward_coordinator.monitoring import ComparisonTotals, ModelTotals
    from edgeward_coordinator.rollouts.members import GroupDevice
    from edgeward_coordinator.rollouts.rollout import RolloutDevice

# How many members were admitted in a phase and are in a state.
MemberCounts = dict[tuple[int, DeviceState], int]

_ROLLOUT = schema.rollout
_MEMBER = schema.rollout_device
_ASSIGNMENT = schema.assignment
_DEVICE = schema.device


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRollout:
    """What tells one rollout that is not over from another."""

    id: str
    model: str
    group: str
    to_version: int
    state: RolloutState


# Rollouts


def insert_rollout(connection: Connection, rollout: Rollout) -> None:
    """Add one."""
    values = {
        "id": rollout.id,
        "model": rollout.model,
        "group_name": rollout.group,
        "to_version": rollout.to_version,
        "plan": plan_to_json(rollout.plan),
        "plan_toml": rollout.plan_toml,
        "created_at": rollout.created_at,
        "created_by": rollout.created_by,
        **changing_values(rollout),
    }
    connection.execute(insert(_ROLLOUT).values(values))


def update_rollout(connection: Connection, rollout: Rollout) -> bool:
    """Write what can change of one, as its next revision; False where it is at another than the one that was read."""
    as_read = (_ROLLOUT.c.id == rollout.id) & (_ROLLOUT.c.revision == rollout.revision)
    values = {**changing_values(rollout), "revision": rollout.revision + 1}
    return connection.execute(update(_ROLLOUT).where(as_read).values(values)).rowcount == 1


def load_rollout(connection: Connection, rollout_id: str) -> Rollout | None:
    """One, None where there is none."""
    row = connection.execute(select(_ROLLOUT).where(_ROLLOUT.c.id == rollout_id)).mappings().one_or_none()
    return None if row is None else rollout_from_row(row)


def load_rollouts(
    connection: Connection, *, group: str = "", model: str = "", live_only: bool = False, limit: int | None = None
) -> list[Rollout]:
    """Rollouts, newest first; empty arguments leave all in."""
    query = select(_ROLLOUT).order_by(_ROLLOUT.c.created_at.desc(), _ROLLOUT.c.id.desc()).limit(limit)
    if group:
        query = query.where(_ROLLOUT.c.group_name == group)
    if model:
        query = query.where(_ROLLOUT.c.model == model)
    if live_only:
        query = query.where(_ROLLOUT.c.ended_at.is_(None))
    return [rollout_from_row(row) for row in connection.execute(query).mappings()]


def load_live(connection: Connection, *, group: str = "", model: str = "") -> list[LiveRollout]:
    """The rollouts that are not over, oldest first; empty arguments leave all in."""
    columns = _ROLLOUT.c
    query = select(columns.id, columns.model, columns.group_name, columns.to_version, columns.state)
    query = query.where(columns.ended_at.is_(None)).order_by(columns.created_at, columns.id)
    if group:
        query = query.where(columns.group_name == group)
    if model:
        query = query.where(columns.model == model)
    return [
        LiveRollout(
            id=row.id,
            model=row.model,
            group=row.group_name,
            to_version=row.to_version,
            state=RolloutState(row.state),
        )
        for row in connection.execute(query)
    ]


def load_revision(connection: Connection, rollout_id: str) -> int | None:
    """How often it was written; one look-up. None: there is none."""
    query = select(_ROLLOUT.c.revision).where(_ROLLOUT.c.id == rollout_id)
    return connection.execute(query).scalar_one_or_none()


def deployed_version(connection: Connection, group: str, model: str) -> int | None:
    """What the group runs of the model."""
    found = deployment_store.load_deployments(connection, group=group, model=model)
    return found[0].version if found else None


# Devices


def load_group(connection: Connection, rollout: Rollout) -> dict[str, GroupDevice]:
    """The devices of the group that are not revoked, by id; their labels where the present phase asks for labels."""
    columns = _DEVICE.c
    asked = (columns.own_labels, columns.set_labels) if rollout.plan.phases[rollout.phase].labels else ()
    query = select(columns.id, columns.reported, columns.last_seen_at, *asked)
    query = query.where(columns.group_name == rollout.group, columns.revoked_at.is_(None)).order_by(columns.id)
    return {row["id"]: group_device_from_row(row, rollout.model) for row in connection.execute(query).mappings()}


def count_groups(connection: Connection, groups: Collection[str]) -> dict[str, int]:
    """How many devices of these groups are not revoked."""
    columns = _DEVICE.c
    query = select(columns.group_name, func.count().label("devices")).group_by(columns.group_name)
    query = query.where(columns.group_name.in_(groups), columns.revoked_at.is_(None))
    found = {row.group_name: row.devices for row in connection.execute(query)}
    return {group: found.get(group, 0) for group in groups}


def count_members(connection: Connection, rollout_ids: Collection[str]) -> dict[str, MemberCounts]:
    """By rollout how many of the devices it admitted, and that are still in the group, are in each phase and state."""
    query = (
        select(_MEMBER.c.rollout_id, _MEMBER.c.phase, _MEMBER.c.state, func.count().label("devices"))
        .join(_ROLLOUT, _ROLLOUT.c.id == _MEMBER.c.rollout_id)
        .join(_DEVICE, and_(_DEVICE.c.id == _MEMBER.c.device_id, _DEVICE.c.group_name == _ROLLOUT.c.group_name))
        .where(_MEMBER.c.rollout_id.in_(rollout_ids), _DEVICE.c.revoked_at.is_(None))
        .group_by(_MEMBER.c.rollout_id, _MEMBER.c.phase, _MEMBER.c.state)
    )
    counts: dict[str, MemberCounts] = {rollout_id: {} for rollout_id in rollout_ids}
    for row in connection.execute(query):
        counts[row.rollout_id][row.phase, DeviceState(row.state)] = row.devices
    return counts


def load_members(connection: Connection, rollout: Rollout) -> dict[str, Member]:
    """All that a rollout has admitted, wherever they are now, by id."""
    assigned = and_(
        _ASSIGNMENT.c.device_id == _MEMBER.c.device_id,
        _ASSIGNMENT.c.rollout_id == _MEMBER.c.rollout_id,
        _ASSIGNMENT.c.model == rollout.model,
    )
    query = select(_MEMBER, _ASSIGNMENT.c.release).outerjoin(_ASSIGNMENT, assigned)
    rows = connection.execute(query.where(_MEMBER.c.rollout_id == rollout.id)).mappings()
    return {row["device_id"]: member_from_row(row) for row in rows}


def load_devices(connection: Connection, rollout: Rollout) -> list[RolloutDevice]:
    """The admitted devices that are still in the group and not revoked, by name."""
    query = select(_MEMBER, _DEVICE.c.name).join(_DEVICE, _DEVICE.c.id == _MEMBER.c.device_id)
    query = query.where(_MEMBER.c.rollout_id == rollout.id, _DEVICE.c.group_name == rollout.group)
    rows = connection.execute(query.where(_DEVICE.c.revoked_at.is_(None))).mappings()
    # Sorted here, so that the order is the same under any collation.
    return sorted(map(device_from_row, rows), key=lambda device: (device.name, device.device_id))


def put_members(connection: Connection, rollout_id: str, members: Sequence[Member]) -> None:
    """Add members, or write where they are now."""
    if not members:
        return
    statement = insert_into(connection, _MEMBER)
    changed = {
        name: statement.excluded[name] for name in ("phase", "state", "error", "baseline", "admitted_at", "changed_at")
    }
    upsert = statement.on_conflict_do_update(index_elements=list(_MEMBER.primary_key), set_=changed)
    connection.execute(upsert, [row_of_member(rollout_id, member) for member in members])


def sum_answers(connection: Connection, rollout: Rollout, device_ids: Sequence[str]) -> Answers:
    """What these devices answered together with both versions, as far as the present phase judges it."""
    phase = rollout.plan.phases[rollout.phase]
    with_latency = phase.gates.max_latency_ratio is not None
    versions = sum_version_totals(connection, rollout.model, _versions(rollout), device_ids, with_latency=with_latency)
    if phase.mode != "shadow":
        return Answers(versions=versions)
    compared = sum_comparisons(connection, rollout.model, rollout.to_version, device_ids, with_latency=with_latency)
    return Answers(versions=versions, comparisons=compared)


def _answers_of_each(connection: Connection, rollout: Rollout, device_ids: Sequence[str]) -> dict[str, Answers]:
    versions: dict[str, list[ModelTotals]] = defaultdict(list)
    compared: dict[str, list[ComparisonTotals]] = defaultdict(list)
    for device_id, totals in select_version_totals(connection, rollout.model, _versions(rollout), device_ids):
        versions[device_id].append(totals)
    for device_id, comparison in select_comparisons(connection, rollout.model, rollout.to_version, device_ids):
        compared[device_id].append(comparison)
    return {each: Answers(versions=versions[each], comparisons=compared[each]) for each in device_ids}


def _versions(rollout: Rollout) -> list[int]:
    return [version for version in (rollout.from_version, rollout.to_version) if version is not None]


# What changes a device's desired state


def admit(connection: Connection, rollout: Rollout, admitted: Collection[Member]) -> None:
    """Admit devices, those that were moved or revoked meanwhile left out: from a new generation on they take part."""
    locked = deployment_store.lock_devices(connection, rollout.group, [member.device_id for member in admitted])
    if not locked:
        return
    by_id = {member.device_id: member for member in admitted}
    before = _former_assignments(connection, rollout, locked)
    answers = _answers_of_each(connection, rollout, locked)
    mode = rollout.plan.phases[rollout.phase].mode
    release = next_generation(connection)
    members = [
        replace(
            by_id[device_id],
            release=release,
            baseline=baseline(answers[device_id], rollout=rollout, mode=mode),
            former=before.get(device_id),
        )
        for device_id in locked
    ]
    put_members(connection, rollout.id, members)
    deployment_store.put_assignments(connection, [_assignment(rollout, member) for member in members])


def withdraw(connection: Connection, rollout: Rollout, *, keep_succeeded: bool = False) -> None:
    """Have devices run again what they ran before the rollout: all, or all that the new version does not serve on."""
    members = load_members(connection, rollout)
    assigned = deployment_store.assigned_by(connection, rollout.id)
    leaving = [each for each in assigned if not (keep_succeeded and _is_served(rollout, members[each]))]
    if not leaving:
        return
    former = {each: members[each].former for each in leaving}
    generation = next_generation(connection)
    deployment_store.withdraw_assignments(connection, rollout.id, leaving, generation)
    deployment_store.put_assignments(
        connection,
        [
            Assignment(
                device_id=device_id,
                model=rollout.model,
                group=rollout.group,
                rollout_id=before.rollout_id,
                version=before.version,
                release=generation,
            )
            for device_id, before in former.items()
            if before is not None
        ],
    )


def deploy(connection: Connection, rollout: Rollout) -> None:
    """Make the new version what the group runs: it is then for every device, admitted or not."""
    deployment_store.set_version(
        connection,
        rollout.group,
        rollout.model,
        rollout.to_version,
        at=rollout.changed_at,
        actor=f"rollout {rollout.id}",
    )
    deployment_store.clear_assignments(connection, rollout.group, rollout.model)


def undeploy(connection: Connection, rollout: Rollout) -> bool:
    """Have the group run again what it ran before a rollout that had succeeded; False where that was changed since."""
    at, group, model, made_by = rollout.changed_at, rollout.group, rollout.model, f"rollout {rollout.id}"
    next_generation(connection)  # nobody starts or deploys until this is decided
    others = [each for each in load_live(connection, group=group, model=model) if each.id != rollout.id]
    deployed = deployment_store.load_deployments(connection, group=group, model=model)
    if others or [(each.version, each.created_by) for each in deployed] != [(rollout.to_version, made_by)]:
        return False
    if rollout.from_version is None:
        deployment_store.remove_version(connection, group, model, at=at, actor=made_by)
    else:
        deployment_store.set_version(connection, group, model, rollout.from_version, at=at, actor=made_by)
    return True


def _former_assignments(
    connection: Connection, rollout: Rollout, device_ids: Collection[str]
) -> dict[str, FormerAssignment]:
    """What another rollout left assigned to devices; the version that is rolled out is nothing to go back to."""
    members = load_members(connection, rollout)
    found = {
        device_id: FormerAssignment(rollout_id=rollout_id, version=version)
        for device_id, (rollout_id, version) in deployment_store.load_assigned_versions(
            connection, rollout.model, device_ids
        ).items()
        if rollout_id != rollout.id and version != rollout.to_version
    }
    kept = {each: members[each].former for each in device_ids if each in members}
    return {**found, **{device_id: former for device_id, former in kept.items() if former is not None}}


def _is_served(rollout: Rollout, member: Member) -> bool:
    return member.state is DeviceState.SUCCEEDED and mode_of(rollout, member) == "serve"


def _assignment(rollout: Rollout, member: Member) -> Assignment:
    mode = mode_of(rollout, member)
    serves = mode == "serve"
    before = rollout.from_version if member.former is None else member.former.version
    return Assignment(
        device_id=member.device_id,
        model=rollout.model,
        group=rollout.group,
        rollout_id=rollout.id,
        version=rollout.to_version if serves else before,
        candidate_version=None if serves else rollout.to_version,
        mode=mode,
        share=rollout.plan.phases[member.phase].ab_share if mode == "ab" else 0.0,
        probation=rollout.plan.probation,
        release=member.release or 0,
    )
