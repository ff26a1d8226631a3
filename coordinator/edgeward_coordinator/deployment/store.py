"""The rows of deployments and assignments, and what they need of devices.

Locks are taken in this order: a rollout, devices by id, the fleet's generation,
the audit log. `next_generation` locks its row until the transaction ends, so
whoever has taken a generation and then looks sees all earlier decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, and_, delete, func, select, update

from edgeward_coordinator.deployment.assignment import Assignment, rules_from_document, rules_to_document
from edgeward_coordinator.deployment.deployment import Deployment
from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.fleet.documents import reported_from_document
from edgeward_coordinator.registry.store import load_versions
from edgeward_coordinator.storage import insert_into, next_generation, schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Select

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.state import ReportedState

_DEVICE = schema.device
_ASSIGNMENT = schema.assignment

# Parameters of one statement; SQLite takes 32,766.
_MAX_NAMED = 500


def set_version(connection: Connection, group: str, model: str, version: int, *, at: datetime, actor: str) -> int:
    """Make or change the deployment of a model to a group; returns its generation, which is also its release."""
    generation = next_generation(connection)
    values = {
        "version": version,
        "generation": generation,
        "release": generation,
        "created_at": at,
        "created_by": actor,
    }
    table = schema.deployment
    statement = insert_into(connection, table).values(group_name=group, model=model, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values))
    return generation


def remove_version(connection: Connection, group: str, model: str, *, at: datetime, actor: str) -> int | None:
    """Take the model from the group; the row stays for its generation, which is returned. None: it was not there."""
    table = schema.deployment
    generation = next_generation(connection)
    live = _is_live() & (table.c.group_name == group) & (table.c.model == model)
    values = {"version": None, "generation": generation, "created_at": at, "created_by": actor}
    return generation if connection.execute(update(table).where(live).values(values)).rowcount else None


def load_deployments(connection: Connection, *, group: str = "", model: str = "") -> list[Deployment]:
    """The deployments in force by group and model, without counts; empty arguments leave all in."""
    table = schema.deployment
    query = select(table).where(_is_live()).order_by(table.c.group_name, table.c.model)
    if group:
        query = query.where(table.c.group_name == group)
    if model:
        query = query.where(table.c.model == model)
    return [_deployment_from_row(row) for row in connection.execute(query).mappings()]


def group_generations(connection: Connection, groups: Collection[str]) -> dict[str, int]:
    """The newest generation of each group, removals included; 0 where nothing was ever deployed to it."""
    table = schema.deployment
    query = select(table.c.group_name, func.max(table.c.generation).label("newest")).group_by(table.c.group_name)
    found = {row.group_name: row.newest for row in connection.execute(query)}
    return {group: found.get(group, 0) for group in groups}


def load_places(connection: Connection, device_ids: Collection[str]) -> dict[str, tuple[str, int]]:
    """Of each of these devices that exists its group, and the floor of its generations."""
    query = select(_DEVICE.c.id, _DEVICE.c.group_name, _DEVICE.c.generation_floor)
    rows = _rows_named(connection, query, _DEVICE.c.id, device_ids)
    return {row.id: (row.group_name, row.generation_floor) for row in rows}


def load_reports(connection: Connection, groups: set[str]) -> dict[str, list[ReportedState | None]]:
    """What the devices that are not revoked last reported, by group."""
    table = schema.device
    query = select(table.c.group_name, table.c.reported)
    query = query.where(table.c.group_name.in_(groups) & table.c.revoked_at.is_(None))
    reports: dict[str, list[ReportedState | None]] = {group: [] for group in groups}
    for row in connection.execute(query):
        reports[row.group_name].append(reported_from_document(row.reported) if row.reported else None)
    return reports


def verify_no_rollout(connection: Connection, group: str, model: str) -> None:
    """Check that the deployment may be changed; holds until the transaction ends where it has taken a generation.

    Raises:
        FailedPrecondition: A rollout changes it.
    """
    table = schema.rollout
    live = (table.c.group_name == group) & (table.c.model == model) & table.c.ended_at.is_(None)
    rollout_id = connection.execute(select(table.c.id).where(live).limit(1)).scalar_one_or_none()
    if rollout_id is not None:
        raise FailedPrecondition(
            f"the rollout {rollout_id} of {model!r} to group {group!r} is not over",
            hint=f"wait for it, or end it first: edgeward rollouts abort {rollout_id}",
        )


def load_offers(
    connection: Connection, named: Collection[tuple[str, int]]
) -> dict[tuple[str, int], tuple[Flavor, ...]]:
    """What devices can be offered of each of these models and versions, best first."""
    return {(model, number): load_versions(connection, model, number=number)[0].deployable for model, number in named}


# Assignments


def load_assignments(connection: Connection, device_ids: Collection[str]) -> dict[str, list[Assignment]]:
    """What applies to each of these devices: assignments for another group than the device is in are left out."""
    query = select(_ASSIGNMENT).join(_DEVICE, _applies())
    found: dict[str, list[Assignment]] = {}
    for row in _rows_named(connection, query, _ASSIGNMENT.c.device_id, device_ids):
        found.setdefault(row.device_id, []).append(_assignment_from_row(row))
    return found


def load_assigned_versions(
    connection: Connection, model: str, device_ids: Collection[str]
) -> dict[str, tuple[str, int | None]]:
    """By device the rollout that assigned it something of the model, and the version that serves."""
    columns = (_ASSIGNMENT.c.device_id, _ASSIGNMENT.c.rollout_id, _ASSIGNMENT.c.version)
    query = select(*columns).join(_DEVICE, _applies()).where(_ASSIGNMENT.c.model == model)
    rows = _rows_named(connection, query, _ASSIGNMENT.c.device_id, device_ids)
    return {row.device_id: (row.rollout_id, row.version) for row in rows}


def has_assignments(connection: Connection, group: str, model: str) -> bool:
    """Whether any device of the group was assigned something of the model."""
    query = select(_ASSIGNMENT.c.device_id).where(_assigned_in(group, model)).limit(1)
    return connection.execute(query).first() is not None


def lock_devices(connection: Connection, group: str, device_ids: Collection[str]) -> list[str]:
    """Those of these devices that are still in the group and not revoked, held until the transaction ends."""
    query = select(_DEVICE.c.id).where(_DEVICE.c.group_name == group, _DEVICE.c.revoked_at.is_(None))
    # In one order everywhere, or two transactions could wait for each other.
    query = query.order_by(_DEVICE.c.id).with_for_update()
    return [row.id for row in _rows_named(connection, query, _DEVICE.c.id, sorted(device_ids))]


def put_assignments(connection: Connection, assignments: Sequence[Assignment]) -> None:
    """Assign, in place of what these devices were assigned of the model before; the caller has locked them."""
    if not assignments:
        return
    statement = insert_into(connection, _ASSIGNMENT)
    keys = set(_ASSIGNMENT.primary_key.columns.keys())
    changed = {column.name: statement.excluded[column.name] for column in _ASSIGNMENT.c if column.name not in keys}
    upsert = statement.on_conflict_do_update(index_elements=list(_ASSIGNMENT.primary_key), set_=changed)
    connection.execute(upsert, [_row_of_assignment(each) for each in assignments])


def assigned_by(connection: Connection, rollout_id: str) -> list[str]:
    """The devices that hold an assignment of a rollout, locked until the transaction ends."""
    holding = select(_ASSIGNMENT.c.device_id).where(_ASSIGNMENT.c.rollout_id == rollout_id)
    query = select(_DEVICE.c.id).where(_DEVICE.c.id.in_(holding)).order_by(_DEVICE.c.id).with_for_update()
    return list(connection.execute(query).scalars())


def withdraw_assignments(connection: Connection, rollout_id: str, device_ids: Collection[str], generation: int) -> None:
    """Take what a rollout assigned from these devices, which are locked: from `generation` on they follow their group.

    The floor keeps a device's desired state from going back in its generation.
    """
    for named in _parts(device_ids):
        raised = update(_DEVICE).where(_DEVICE.c.id.in_(named)).values(generation_floor=generation)
        connection.execute(raised)
        gone = (_ASSIGNMENT.c.rollout_id == rollout_id) & _ASSIGNMENT.c.device_id.in_(named)
        connection.execute(delete(_ASSIGNMENT).where(gone))


def clear_assignments(connection: Connection, group: str, model: str) -> None:
    """Have all devices of a group follow its deployment, which has just taken a generation."""
    connection.execute(delete(_ASSIGNMENT).where(_assigned_in(group, model)))


def _assigned_in(group: str, model: str) -> ColumnElement[bool]:
    return (_ASSIGNMENT.c.group_name == group) & (_ASSIGNMENT.c.model == model)


def _applies() -> ColumnElement[bool]:
    return and_(_DEVICE.c.id == _ASSIGNMENT.c.device_id, _DEVICE.c.group_name == _ASSIGNMENT.c.group_name)


def _rows_named(
    connection: Connection, query: Select[Any], column: ColumnElement[str], ids: Collection[str]
) -> Iterator[Row[Any]]:
    for named in _parts(ids):
        yield from connection.execute(query.where(column.in_(named)))


def _parts(ids: Collection[str]) -> Iterator[list[str]]:
    listed = list(ids)
    for start in range(0, len(listed), _MAX_NAMED):
        yield listed[start : start + _MAX_NAMED]


def _row_of_assignment(assignment: Assignment) -> dict[str, Any]:
    return {
        "device_id": assignment.device_id,
        "model": assignment.model,
        "group_name": assignment.group,
        "rollout_id": assignment.rollout_id,
        "version": assignment.version,
        "candidate_version": assignment.candidate_version,
        "mode": assignment.mode,
        "share": assignment.share,
        "probation": rules_to_document(assignment.probation),
        "release": assignment.release,
        "generation": max(assignment.generation, assignment.release),
    }


def _assignment_from_row(row: Row[Any]) -> Assignment:
    return Assignment(
        device_id=row.device_id,
        model=row.model,
        group=row.group_name,
        rollout_id=row.rollout_id,
        version=row.version,
        candidate_version=row.candidate_version,
        mode=row.mode,
        share=row.share,
        probation=rules_from_document(row.probation),
        release=row.release,
        generation=row.generation,
    )


def _is_live() -> ColumnElement[bool]:
    return schema.deployment.c.version.is_not(None)


def _deployment_from_row(row: RowMapping) -> Deployment:
    return Deployment(
        group=row["group_name"],
        model=row["model"],
        version=row["version"],
        generation=row["generation"],
        release=row["release"],
        created_at=row["created_at"],
        created_by=row["created_by"],
    )
