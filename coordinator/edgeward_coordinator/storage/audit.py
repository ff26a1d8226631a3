"""The append-only, hash-chained audit log.

hash_n = SHA-256(hash_{n-1} || canonical JSON of entry n), hash_0 = 64 zeros: who
alters, removes or inserts an entry must redo every later hash, which an
operator who noted an earlier head (`edgeward audit verify` prints it) detects.
The single row of `audit_head` serialises writers on both databases.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select, update

from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from datetime import datetime

GENESIS_HASH = "0" * 64

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change; `detail` is canonical JSON text."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a walk over the chain found; `first_broken` is 0 where it is intact."""

    entries: int
    head_hash: str
    first_broken: int
    problem: str

    @property
    def is_intact(self) -> bool:
        """Whether every entry follows from the one before."""
        return self.first_broken == 0


def entry_hash(
    *, previous_hash: str, number: int, at: datetime, actor: str, action: str, subject: str, detail: str
) -> str:
    """The hash of one entry; see the module's docstring."""
    body = json.dumps([number, at.isoformat(), actor, action, subject, detail], separators=(",", ":"))
    return hashlib.sha256((previous_hash + body).encode()).hexdigest()


def append_audit_entry(
    connection: Connection, *, at: datetime, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Append in the caller's transaction."""
    head = schema.audit_head
    # The update takes the row's lock before the read, so two writers cannot see the same head.
    connection.execute(update(head).values(number=head.c.number + 1))
    number, previous_hash = connection.execute(select(head.c.number, head.c.hash)).one()
    canonical = json.dumps(detail, sort_keys=True, separators=(",", ":"), default=str)
    at = at.astimezone(UTC)  # as it is read back, or the hash would not hold
    digest = entry_hash(
        previous_hash=previous_hash,
        number=number,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        detail=canonical,
    )
    connection.execute(
        insert(schema.audit_entry).values(
            number=number,
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=canonical,
            previous_hash=previous_hash,
            hash=digest,
        )
    )
    connection.execute(update(head).values(hash=digest))


def read_audit_entries(
    connection: Connection, *, after: int = 0, limit: int | None = None
) -> Generator[AuditEntry, None, None]:
    """Entries with a number above `after`, in order; close it where you stop early."""
    table = schema.audit_entry
    query = select(table).where(table.c.number > after).order_by(table.c.number).limit(limit)
    with connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}) as rows:
        for row in rows:
            yield AuditEntry(**row._mapping)  # noqa: SLF001


def verify_chain(entries: Iterable[AuditEntry], *, head_number: int, head_hash: str) -> ChainReport:
    """Walk the chain from its start and compare its end with the head."""
    expected_hash, expected_number = GENESIS_HASH, 0
    for entry in entries:
        expected_number += 1
        problem = _problem_with(entry, expected_number, expected_hash)
        if problem:
            return ChainReport(
                entries=expected_number, head_hash=head_hash, first_broken=expected_number, problem=problem
            )
        expected_hash = entry.hash
    if (expected_number, expected_hash) != (head_number, head_hash):
        return ChainReport(
            entries=expected_number,
            head_hash=head_hash,
            first_broken=expected_number + 1,
            problem=f"the log ends at entry {expected_number}, its head says {head_number}",
        )
    return ChainReport(entries=expected_number, head_hash=head_hash, first_broken=0, problem="")


def _problem_with(entry: AuditEntry, expected_number: int, expected_hash: str) -> str:
    if entry.number != expected_number:
        return f"entry {expected_number} is missing"
    if entry.previous_hash != expected_hash:
        return f"entry {entry.number} does not follow the entry before it"
    actual = entry_hash(
        previous_hash=entry.previous_hash,
        number=entry.number,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail,
    )
    return "" if actual == entry.hash else f"entry {entry.number} was altered"
