"""Statements that the two databases spell differently, and the counter that several parts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_GENERATION = "generation"


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def next_generation(connection: Connection) -> int:
    """Count the fleet's generation up; who desires something new puts this number on it.

    The update locks the row to the transaction's end, so generations become
    visible in their order.
    """
    counter = schema.counter
    newest = update(counter).where(counter.c.name == _GENERATION).values(value=counter.c.value + 1)
    return int(connection.execute(newest.returning(counter.c.value)).scalar_one())


def newest_generation(connection: Connection) -> int:
    """The newest generation of the fleet; one look-up."""
    counter = schema.counter
    return int(connection.execute(select(counter.c.value).where(counter.c.name == _GENERATION)).scalar_one())
