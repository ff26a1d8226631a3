"""The audit log as its readers see it: pages of entries, and the verdict on the whole chain."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import select

from edgeward_coordinator.storage import schema
from edgeward_coordinator.storage.audit import AuditEntry, ChainReport, read_audit_entries, verify_chain

if TYPE_CHECKING:
    from edgeward_coordinator.storage.database import Database


class AuditLog:
    """Reads the log; only `Database.change` writes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self, *, after: int, limit: int) -> list[AuditEntry]:
        """At most `limit` entries with a number above `after`, in order."""
        with self._database.read() as connection:
            return list(read_audit_entries(connection, after=after, limit=limit))

    def verify(self) -> ChainReport:
        """Walk the whole chain."""
        head = schema.audit_head
        with self._database.read() as connection:
            row = connection.execute(select(head.c.number, head.c.hash)).one_or_none()
            if row is None:
                return ChainReport(entries=0, head_hash="", first_broken=1, problem="the log's head is missing")
            with closing(read_audit_entries(connection)) as entries:
                return verify_chain(entries, head_number=row.number, head_hash=row.hash)
