"""The fleet: enrollment, renewal, revocation, groups and labels, and what devices say of themselves.

Decisions go through `Database.change` and so into the audit log; what devices
say is recorded without waiting for the disk, since they say it again at the
start of each session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from edgeward_coordinator.access.tokens import ENROLLMENT_PREFIX, new_id, new_secret, verifier_of
from edgeward_coordinator.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from edgeward_coordinator.fleet import documents, store
from edgeward_coordinator.fleet.devices import DeviceIdentity, DeviceRecord, Enrolled
from edgeward_coordinator.fleet.enrollment import EnrollmentToken, device_id_of, verify_terms
from edgeward_coordinator.fleet.labels import acceptable_labels, changed_labels, has_labels, verify_labels
from edgeward_coordinator.fleet.membership import Membership, minute
from edgeward_coordinator.identity import parse_csr
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.storage import Change, next_generation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from edgeward.protocol.state import Heartbeat, Hello, ReportedState
    from edgeward_coordinator.identity import FleetCA, IssuedCertificate
    from edgeward_coordinator.storage import Database

_T = TypeVar("_T")

_MAX_SECRET_CHARACTERS = 128
_MAX_REASON_CHARACTERS = 500


class Fleet:
    """All devices. Thread-safe."""

    def __init__(self, database: Database, ca: FleetCA) -> None:
        self._database = database
        self._ca = ca

    # How a device becomes a member

    def create_enrollment_token(
        self, *, group: str, uses: int, expires_in: timedelta, actor: str
    ) -> tuple[EnrollmentToken, str]:
        """Make a token with which `uses` devices may enroll into `group`.

        Returns:
            The token, and its secret, which is stored nowhere.

        Raises:
            InvalidArgument: No group's name, no uses, no time, or too much of them.
        """
        verify_name(group, of="a group")
        verify_terms(uses=uses, expires_in=expires_in)
        now = self._database.clock()
        secret = new_secret(ENROLLMENT_PREFIX)
        token = EnrollmentToken(
            id=new_id(),
            group=group,
            uses_total=uses,
            uses_left=uses,
            expires_at=now + expires_in,
            created_at=now,
            created_by=actor,
        )
        detail = {"group": group, "uses": uses, "expires_at": token.expires_at.isoformat()}
        change = Change(actor=actor, action="enrollment_token.create", subject=token.id, detail=detail)
        with self._database.change(change) as connection:
            store.insert_token(connection, token, verifier=verifier_of(secret))
        return token, secret

    def enroll(self, *, secret: str, csr_pem: bytes, name: str, labels: Mapping[str, str]) -> Enrolled:
        """Make whoever knows the secret a device; spends one use of the token.

        Asking again with the same token and key spends nothing and gives the same device a
        fresh certificate: so a device whose answer was lost can simply ask again.

        Args:
            secret: The token's.
            csr_pem: A request for the device's key.
            name: What operators call it; need not be unique.
            labels: What the device says of itself.

        Raises:
            InvalidArgument: The request, the name or a label can't be one. No use is spent.
            Unauthenticated: The token is unknown, expired or spent, or the device was revoked.
        """
        verify_name(name, of="a device")
        verify_labels(labels)
        key_fingerprint = parse_csr(csr_pem).key_fingerprint
        token = self._known_token(secret)
        device_id = device_id_of(token_id=token.id, key_fingerprint=key_fingerprint)
        # Signed before it is known whether a use is left, so that no lock is held meanwhile.
        # Until its serial is stored below, the certificate opens nothing.
        certificate = self._ca.sign_device(csr_pem, device_id=device_id)
        change = Change(
            actor=f"enrollment token {token.id}",
            action="device.enroll",
            subject=device_id,
            detail={"name": name, "group": token.group, "serial": certificate.serial},
        )
        with self._database.change(change) as connection:
            now = self._database.clock()
            member = store.take_use(connection, token, device_id, now=now)
            if member is not None:
                member.verify_not_revoked()
                member.verify_enrolled_with(key_fingerprint)
                store.set_next_certificate(connection, device_id, certificate)
                return Enrolled(device_id=device_id, group=member.group, certificate=certificate)
            store.insert_device(
                connection,
                device_id,
                name=name,
                group=token.group,
                own_labels=labels,
                enrollment_key=key_fingerprint,
                certificate=certificate,
                at=now,
            )
        return Enrolled(device_id=device_id, group=token.group, certificate=certificate)

    def renew(self, device_id: str, csr_pem: bytes) -> IssuedCertificate:
        """A new certificate for a member; the old one stays good until the new one is first used.

        Raises:
            InvalidArgument: The request can't be one.
            Unauthenticated: The device is unknown or revoked.
        """
        certificate = self._ca.sign_device(csr_pem, device_id=device_id)
        change = Change(
            actor=f"device {device_id}",
            action="device.renew",
            subject=device_id,
            detail={"serial": certificate.serial, "not_after": certificate.not_after.isoformat()},
        )
        with self._database.change(change) as connection:
            _known(store.lock_membership(connection, device_id), device_id)
            store.set_next_certificate(connection, device_id, certificate)
        return certificate

    def authenticate_device(self, device_id: str, serial: str) -> DeviceIdentity:
        """Let a device in; TLS has verified that the fleet CA signed its certificate.

        Args:
            device_id: The certificate's common name.
            serial: Its serial number, lower-case hexadecimal.

        Raises:
            Unauthenticated: The device is unknown or revoked, or the certificate is superseded or expired.
        """
        with self._database.read() as connection:
            member = _known(store.find_membership(connection, device_id), device_id)
        member.verify_certificate(serial, now=self._database.clock())
        if serial == member.next_serial:
            with self._database.write() as connection:
                store.take_next_certificate(connection, device_id, serial)
        return DeviceIdentity(id=member.id, group=member.group)

    # What operators decide

    def revoke(self, device: str, *, reason: str, actor: str) -> str:
        """Take a device out of the fleet, for ever; its next call is refused. Cut its open streams after.

        Args:
            device: Its id or name.
            reason: For the audit log.
            actor: Who decides.

        Returns:
            Its id.

        Raises:
            NotFound: No such device.
            InvalidArgument: Several devices have that name.
            FailedPrecondition: It is revoked already.
        """
        device_id = self.resolve(device)
        now = self._database.clock()
        detail = {"reason": reason[:_MAX_REASON_CHARACTERS]}
        with self._database.change(
            Change(actor=actor, action="device.revoke", subject=device_id, detail=detail)
        ) as connection:
            member = _found(store.lock_membership(connection, device_id), device)
            if member.revoked_at is not None:
                raise FailedPrecondition(
                    f"the device {member.name} ({device_id}) was already revoked at {minute(member.revoked_at)}"
                )
            store.set_revoked(connection, device_id, at=now)
        return device_id

    def update(self, device: str, *, group: str | None, set_labels: Mapping[str, str], actor: str) -> DeviceRecord:
        """Move a device to another group, or change its labels.

        A move makes a new generation, so that the device's desired state is newer than any it has seen.

        Args:
            device: Its id or name.
            group: The new group; None or empty: as it is.
            set_labels: New values; an empty one removes a label.
            actor: Who decides.

        Raises:
            NotFound: No such device.
            InvalidArgument: Several devices have that name, or the group or a label can't be one.
        """
        if group:
            verify_name(group, of="a group")
        verify_labels(set_labels)
        device_id = self.resolve(device)
        detail = {"group": group or None, "labels": dict(set_labels)}
        with self._database.change(
            Change(actor=actor, action="device.update", subject=device_id, detail=detail)
        ) as connection:
            member = _found(store.lock_membership(connection, device_id), device)
            if group and group != member.group:
                floor = next_generation(connection)
                store.set_group(connection, device_id, group=group, generation_floor=floor)
            if set_labels:
                changed = changed_labels(member.own_labels, member.set_labels, set_labels)
                store.set_labels(connection, device_id, changed)
        return self.get_device(device_id)

    # What is known

    def resolve(self, id_or_name: str) -> str:
        """The id of the device with this id, or of the only one with this name.

        A device that enrolled anew has the name of its revoked former self: where one bearer of
        the name is not revoked, it is meant.

        Raises:
            NotFound: No such device.
            InvalidArgument: Several devices have that name.
        """
        with self._database.read() as connection:
            found = store.select_ids_by_name(connection, id_or_name)
        candidates = [device_id for device_id, is_revoked in found if not is_revoked] or [
            device_id for device_id, _ in found
        ]
        if not candidates:
            raise NotFound(f"no device {id_or_name[:80]!r}", hint="`edgeward devices list` shows them all")
        if len(candidates) > 1:
            raise InvalidArgument(
                f"{len(candidates)} devices are named {id_or_name!r}",
                hint=f"give one of the ids {', '.join(candidates)}",
            )
        return candidates[0]

    def get_device(self, device: str) -> DeviceRecord:
        """All that is known of a device, by its id or name.

        Raises:
            NotFound: No such device.
            InvalidArgument: Several devices have that name.
        """
        device_id = self.resolve(device)
        with self._database.read() as connection:
            return _found(store.find_device(connection, device_id), device)

    def list_devices(self, *, group: str = "", labels: Mapping[str, str] | None = None) -> list[DeviceRecord]:
        """The devices of a group, or of all where it is empty, that have these labels; by name."""
        with self._database.read() as connection:
            devices = store.select_devices(connection, group=group)
        # Sorted here, so that the order is the same under any collation.
        found = [device for device in devices if has_labels(device.labels, labels or {})]
        return sorted(found, key=lambda device: (device.name, device.id))

    def revoked_since(self, instant: datetime) -> list[str]:
        """Ids of the devices revoked at or after `instant`.

        Several coordinators' clocks differ and a revocation is seen only when it is committed: who
        polls gives an instant some seconds before the last look.
        """
        with self._database.read() as connection:
            return store.select_revoked_since(connection, instant)

    # What devices say

    def record_hello(self, device_id: str, hello: Hello) -> None:
        """Note a device's first words of a session; its own labels are those that it says now.

        Raises:
            NotFound: No such device.
        """
        said = {
            "inventory": documents.inventory_to_document(hello.inventory),
            "reported": documents.reported_to_document(hello.reported),
            "own_labels": acceptable_labels(hello.labels),
        }
        self._record(device_id, said)

    def record_heartbeat(self, device_id: str, heartbeat: Heartbeat) -> None:
        """Note a heartbeat.

        Raises:
            NotFound: No such device.
        """
        self._record(device_id, {"heartbeat": documents.heartbeat_to_document(heartbeat)})

    def record_reported(self, device_id: str, reported: ReportedState) -> None:
        """Note what a device says it runs.

        Raises:
            NotFound: No such device.
        """
        self._record(device_id, {"reported": documents.reported_to_document(reported)})

    def record_seen(self, device_id: str) -> None:
        """Note that a device was here just now.

        Raises:
            NotFound: No such device.
        """
        self._record(device_id, {})

    def _record(self, device_id: str, said: Mapping[str, Any]) -> None:
        with self._database.write(durable=False) as connection:
            if not store.record(connection, device_id, at=self._database.clock(), said=said):
                raise NotFound(f"no device {device_id[:80]!r}")

    def _known_token(self, secret: str) -> EnrollmentToken:
        if not secret.startswith(ENROLLMENT_PREFIX) or len(secret) > _MAX_SECRET_CHARACTERS:
            raise Unauthenticated("this is not an enrollment token", hint="`edgeward devices token` makes one")
        with self._database.read() as connection:
            token = store.find_token(connection, verifier_of(secret))
        if token is None:
            raise Unauthenticated(
                "this coordinator does not know this enrollment token",
                hint="copy the whole string that `edgeward devices token` printed, from the right coordinator",
            )
        token.verify_not_expired(self._database.clock())
        return token


def _known(member: Membership | None, device_id: str) -> Membership:
    """A member that was not revoked."""
    if member is None:
        raise Unauthenticated(
            f"no device {device_id[:80]!r} is in this fleet", hint="enroll it with a token of this coordinator"
        )
    member.verify_not_revoked()
    return member


def _found(record: _T | None, device: str) -> _T:
    if record is None:
        raise NotFound(f"no device {device[:80]!r}")
    return record
