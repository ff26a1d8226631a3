"""The credentials' table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, or_, select, update

from edgeward_coordinator.access.credentials import Credential, CredentialKind
from edgeward_coordinator.access.roles import Role, parse_role
from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

_TABLE = schema.operator_credential


def insert_credential(connection: Connection, credential: Credential, *, verifier: str) -> None:
    """Add one; `verifier` is what it will be found by."""
    connection.execute(
        insert(_TABLE).values(
            id=credential.id,
            kind=credential.kind.value,
            name=credential.name,
            role=credential.role.word,
            verifier=verifier,
            created_at=credential.created_at,
            created_by=credential.created_by,
            expires_at=credential.expires_at,
            revoked_at=credential.revoked_at,
        )
    )


def find_by_verifier(connection: Connection, kind: CredentialKind, verifier: str) -> Credential | None:
    """The credential that a hash or a serial number belongs to."""
    query = select(_TABLE).where(_TABLE.c.verifier == verifier, _TABLE.c.kind == kind.value)
    return _credential_or_none(connection.execute(query).one_or_none())


def find_by_id(connection: Connection, credential_id: str) -> Credential | None:
    """The credential of that id."""
    query = select(_TABLE).where(_TABLE.c.id == credential_id)
    return _credential_or_none(connection.execute(query).one_or_none())


def has_any_credential(connection: Connection) -> bool:
    """Whether there ever was one."""
    return connection.execute(select(_TABLE.c.id).limit(1)).first() is not None


def select_credentials(connection: Connection) -> list[Credential]:
    """All, the oldest first."""
    query = select(_TABLE).order_by(_TABLE.c.created_at, _TABLE.c.id)
    return [_to_credential(row) for row in connection.execute(query)]


def lock_active_admins(connection: Connection, *, now: datetime) -> set[str]:
    """The ids of the admins that still can log in; nobody else changes them until this transaction ends."""
    query = (
        select(_TABLE.c.id)
        .where(
            _TABLE.c.role == Role.ADMIN.word,
            _TABLE.c.revoked_at.is_(None),
            or_(_TABLE.c.expires_at.is_(None), _TABLE.c.expires_at > now),
        )
        .order_by(_TABLE.c.id)
        .with_for_update()
    )
    return set(connection.execute(query).scalars())


def lock_all_changes(connection: Connection) -> None:
    """Make this the only transaction that changes anything: each ends in the audit log, whose head this takes now."""
    connection.execute(select(schema.audit_head.c.id).with_for_update())


def set_revoked(connection: Connection, credential_id: str, *, at: datetime) -> None:
    """Mark as revoked."""
    connection.execute(update(_TABLE).where(_TABLE.c.id == credential_id).values(revoked_at=at))


def _credential_or_none(row: Row[Any] | None) -> Credential | None:
    return None if row is None else _to_credential(row)


def _to_credential(row: Row[Any]) -> Credential:
    return Credential(
        id=row.id,
        kind=CredentialKind(row.kind),
        name=row.name,
        role=parse_role(row.role),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
