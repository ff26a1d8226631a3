"""The rows of deployments, and what they need of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, func, select, update

from edgeward_coordinator.deployment.deployment import Deployment
from edgeward_coordinator.fleet.documents import reported_from_document
from edgeward_coordinator.storage import insert_into, next_generation, schema

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from edgeward.protocol.state import ReportedState


def set_version(connection: Connection, group: str, model: str, version: int, *, at: datetime, actor: str) -> None:
    """Make or change the deployment of a model to a group."""
    values = {
        "version": version,
        "generation": next_generation(connection),
        "created_at": at,
        "created_by": actor,
    }
    table = schema.deployment
    statement = insert_into(connection, table).values(group_name=group, model=model, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values))


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


def group_generation(connection: Connection, group: str) -> int:
    """The newest generation of a group, removals included; 0 where nothing was ever deployed to it."""
    table = schema.deployment
    query = select(func.max(table.c.generation)).where(table.c.group_name == group)
    return connection.execute(query).scalar_one() or 0


def load_device(connection: Connection, device_id: str) -> tuple[str, int] | None:
    """A device's group and the floor of its generations, None for an unknown device."""
    table = schema.device
    query = select(table.c.group_name, table.c.generation_floor).where(table.c.id == device_id)
    row = connection.execute(query).one_or_none()
    return (row.group_name, row.generation_floor) if row else None


def load_reports(connection: Connection, groups: set[str]) -> dict[str, list[ReportedState | None]]:
    """What the devices that are not revoked last reported, by group."""
    table = schema.device
    query = select(table.c.group_name, table.c.reported)
    query = query.where(table.c.group_name.in_(groups) & table.c.revoked_at.is_(None))
    reports: dict[str, list[ReportedState | None]] = {group: [] for group in groups}
    for row in connection.execute(query):
        reports[row.group_name].append(reported_from_document(row.reported) if row.reported else None)
    return reports


def _is_live() -> ColumnElement[bool]:
    return schema.deployment.c.version.is_not(None)


def _deployment_from_row(row: RowMapping) -> Deployment:
    return Deployment(
        group=row["group_name"],
        model=row["model"],
        version=row["version"],
        generation=row["generation"],
        created_at=row["created_at"],
        created_by=row["created_by"],
    )
