"""Which fleet CA a database belongs to: one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from edgeward_coordinator.storage import insert_into, schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SETTING = "fleet-ca"


def load_fingerprint(connection: Connection) -> str:
    """Of the CA that this database's fleet trusts; "" before the first start."""
    query = select(schema.setting.c.value).where(schema.setting.c.name == _SETTING)
    return connection.execute(query).scalar_one_or_none() or ""


def note_fingerprint(connection: Connection, fingerprint: str) -> str:
    """Note the first one; returns the one that is noted, which may be another's."""
    values = {"name": _SETTING, "value": fingerprint}
    connection.execute(insert_into(connection, schema.setting).values(values).on_conflict_do_nothing())
    return load_fingerprint(connection)
