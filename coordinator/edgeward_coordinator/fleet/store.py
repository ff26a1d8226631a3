"""The tables of devices and enrollment tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, or_, select, update

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.fleet import documents
from edgeward_coordinator.fleet.devices import DeviceRecord
from edgeward_coordinator.fleet.enrollment import EnrollmentToken
from edgeward_coordinator.fleet.labels import combined_labels
from edgeward_coordinator.fleet.membership import Membership
from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row, Select

    from edgeward_coordinator.identity import IssuedCertificate

_DEVICE = schema.device
_TOKEN = schema.enrollment_token
_DEPLOYMENT = schema.deployment
_ASSIGNMENT = schema.assignment


# Enrollment tokens


def insert_token(connection: Connection, token: EnrollmentToken, *, verifier: str) -> None:
    """Add one."""
    connection.execute(
        insert(_TOKEN).values(
            id=token.id,
            verifier=verifier,
            group_name=token.group,
            uses_total=token.uses_total,
            uses_left=token.uses_left,
            expires_at=token.expires_at,
            created_at=token.created_at,
            created_by=token.created_by,
        )
    )


def find_token(connection: Connection, verifier: str) -> EnrollmentToken | None:
    """The token with that verifier."""
    return _token(connection, select(_TOKEN).where(_TOKEN.c.verifier == verifier))


def take_use(connection: Connection, token: EnrollmentToken, device_id: str, *, now: datetime) -> Membership | None:
    """Take a use of a token for a device; none is taken where it is a member already, which is then returned.

    Raises:
        Unauthenticated: No use is left, or its time has come.
    """
    # The token's lock comes first, so that the same device asking twice at once is seen as that.
    locked = _token(connection, select(_TOKEN).where(_TOKEN.c.id == token.id).with_for_update()) or token
    member = lock_membership(connection, device_id)
    if member is None:
        locked.verify_usable(now)
        spending = (
            update(_TOKEN)
            .where(_TOKEN.c.id == token.id, _TOKEN.c.uses_left > 0, _TOKEN.c.expires_at > now)
            .values(uses_left=_TOKEN.c.uses_left - 1)
        )
        if connection.execute(spending).rowcount != 1:
            raise FailedPrecondition("the enrollment token could not be spent", hint="try again")
    return member


# Membership


def insert_device(
    connection: Connection,
    device_id: str,
    *,
    name: str,
    group: str,
    own_labels: Mapping[str, str],
    enrollment_key: str,
    certificate: IssuedCertificate,
    at: datetime,
) -> None:
    """Add a member."""
    connection.execute(
        insert(_DEVICE).values(
            id=device_id,
            name=name,
            group_name=group,
            own_labels=dict(own_labels),
            set_labels={},
            certificate_serial=certificate.serial,
            certificate_not_after=certificate.not_after,
            enrollment_key=enrollment_key,
            enrolled_at=at,
            generation_floor=0,
        )
    )


def find_membership(connection: Connection, device_id: str) -> Membership | None:
    """The member of that id."""
    return _membership(connection, _select_membership(device_id))


def lock_membership(connection: Connection, device_id: str) -> Membership | None:
    """The member as it is, and stays for others until this transaction ends."""
    return _membership(connection, _select_membership(device_id).with_for_update())


def set_next_certificate(connection: Connection, device_id: str, certificate: IssuedCertificate) -> None:
    """Accept this certificate beside the one in use."""
    _set(
        connection,
        device_id,
        next_certificate_serial=certificate.serial,
        next_certificate_not_after=certificate.not_after,
    )


def take_next_certificate(connection: Connection, device_id: str, serial: str) -> None:
    """The renewed certificate was used: from now on it is the only one."""
    columns = _DEVICE.c
    taking = (
        update(_DEVICE)
        .where(columns.id == device_id, columns.next_certificate_serial == serial)
        .values(
            certificate_serial=columns.next_certificate_serial,
            certificate_not_after=columns.next_certificate_not_after,
            next_certificate_serial=None,
            next_certificate_not_after=None,
        )
    )
    connection.execute(taking)


def set_revoked(connection: Connection, device_id: str, *, at: datetime) -> None:
    """Mark as revoked."""
    _set(connection, device_id, revoked_at=at)


def set_group(connection: Connection, device_id: str, *, group: str, generation_floor: int) -> None:
    """Move to another group."""
    _set(connection, device_id, group_name=group, generation_floor=generation_floor)


def set_labels(connection: Connection, device_id: str, set_by_operators: Mapping[str, str]) -> None:
    """Replace operators' labels."""
    _set(connection, device_id, set_labels=dict(set_by_operators))


def record(connection: Connection, device_id: str, *, at: datetime, said: Mapping[str, Any]) -> bool:
    """Note what a device said, and that it was seen: one update. False where there is no such device."""
    noting = update(_DEVICE).where(_DEVICE.c.id == device_id).values(last_seen_at=at, **said)
    return connection.execute(noting).rowcount == 1


# Reading


def select_ids_by_name(connection: Connection, id_or_name: str) -> list[tuple[str, bool]]:
    """Ids of the devices with this id or name, and whether each is revoked; an id alone where it is one."""
    query = (
        select(_DEVICE.c.id, _DEVICE.c.revoked_at)
        .where(or_(_DEVICE.c.id == id_or_name, _DEVICE.c.name == id_or_name))
        .order_by(_DEVICE.c.enrolled_at, _DEVICE.c.id)
    )
    found = [(str(row.id), row.revoked_at is not None) for row in connection.execute(query)]
    return [each for each in found if each[0] == id_or_name] or found


def find_device(connection: Connection, device_id: str) -> DeviceRecord | None:
    """All that is known of one device."""
    row = connection.execute(_select_records().where(_DEVICE.c.id == device_id)).one_or_none()
    return None if row is None else _to_record(row)


def select_devices(connection: Connection, *, group: str) -> list[DeviceRecord]:
    """All devices of a group, or with an empty one of the fleet."""
    query = _select_records()
    if group:
        query = query.where(_DEVICE.c.group_name == group)
    return [_to_record(row) for row in connection.execute(query)]


def select_revoked_since(connection: Connection, instant: datetime) -> list[str]:
    """Ids of the devices that were revoked at or after `instant`."""
    query = select(_DEVICE.c.id).where(_DEVICE.c.revoked_at >= instant).order_by(_DEVICE.c.id)
    return list(connection.execute(query).scalars())


def _token(connection: Connection, query: Select[Any]) -> EnrollmentToken | None:
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return EnrollmentToken(
        id=row.id,
        group=row.group_name,
        uses_total=row.uses_total,
        uses_left=row.uses_left,
        expires_at=row.expires_at,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def _select_membership(device_id: str) -> Select[Any]:
    columns = _DEVICE.c
    return select(
        columns.id,
        columns.name,
        columns.group_name.label("group"),
        columns.own_labels,
        columns.set_labels,
        columns.enrollment_key,
        columns.certificate_serial.label("serial"),
        columns.certificate_not_after.label("not_after"),
        columns.next_certificate_serial.label("next_serial"),
        columns.next_certificate_not_after.label("next_not_after"),
        columns.revoked_at,
    ).where(columns.id == device_id)


def _membership(connection: Connection, query: Select[Any]) -> Membership | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else Membership(**row._mapping)  # noqa: SLF001


def _set(connection: Connection, device_id: str, **values: object) -> None:
    connection.execute(update(_DEVICE).where(_DEVICE.c.id == device_id).values(**values))


def _select_records() -> Select[Any]:
    newest_of_group = select(func.max(_DEPLOYMENT.c.generation)).where(_DEPLOYMENT.c.group_name == _DEVICE.c.group_name)
    newest_assigned = select(func.max(_ASSIGNMENT.c.generation)).where(
        _ASSIGNMENT.c.device_id == _DEVICE.c.id, _ASSIGNMENT.c.group_name == _DEVICE.c.group_name
    )
    return select(
        _DEVICE,
        newest_of_group.scalar_subquery().label("group_generation"),
        newest_assigned.scalar_subquery().label("assigned_generation"),
    )


def _to_record(row: Row[Any]) -> DeviceRecord:
    return DeviceRecord(
        id=row.id,
        name=row.name,
        group=row.group_name,
        labels=combined_labels(row.own_labels, row.set_labels),
        enrolled_at=row.enrolled_at,
        revoked_at=row.revoked_at,
        last_seen_at=row.last_seen_at,
        certificate_not_after=row.certificate_not_after,
        desired_generation=max(row.generation_floor, row.group_generation or 0, row.assigned_generation or 0),
        inventory=documents.inventory_from_document(row.inventory) if row.inventory else None,
        reported=documents.reported_from_document(row.reported) if row.reported else None,
        heartbeat=documents.heartbeat_from_document(row.heartbeat) if row.heartbeat else None,
    )
