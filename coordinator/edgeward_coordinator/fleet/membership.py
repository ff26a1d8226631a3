"""The rules by which a device is let in: not revoked, with the certificate of the day.

A renewed certificate is accepted beside the one in use until it is first used
itself, so a device whose renewal got lost on the way back still has one that
works; from then on the old one opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A device as a member, and what a change of it starts from."""

    id: str
    name: str
    group: str
    own_labels: Mapping[str, str]
    set_labels: Mapping[str, str]
    enrollment_key: str
    serial: str
    not_after: datetime
    next_serial: str | None
    next_not_after: datetime | None
    revoked_at: datetime | None

    def verify_not_revoked(self) -> None:
        """Check that it still belongs to the fleet.

        Raises:
            Unauthenticated: It does not, and since when.
        """
        if self.revoked_at is not None:
            raise Unauthenticated(
                f"the device {self.name} ({self.id}) was revoked at {minute(self.revoked_at)}",
                hint="enroll it again with a new token and a new key, if it should come back",
            )

    def verify_certificate(self, serial: str, *, now: datetime) -> None:
        """Check the certificate that it shows.

        TLS checks the time as well, but once, when a connection opens; connections stay open for months.

        Raises:
            Unauthenticated: It is superseded or expired.
        """
        if serial == self.serial:
            not_after = self.not_after
        elif serial == self.next_serial and self.next_not_after is not None:
            not_after = self.next_not_after
        else:
            raise Unauthenticated(
                f"this certificate of the device {self.name} ({self.id}) is superseded by a newer one",
                hint="use the newer one, or enroll again with a new token",
            )
        if now >= not_after:
            raise Unauthenticated(
                f"the certificate of the device {self.name} ({self.id}) expired at {minute(not_after)}",
                hint="enroll again with a new token",
            )

    def verify_enrolled_with(self, key_fingerprint: str) -> None:
        """Check that it is the device that enrolled with this key.

        Raises:
            FailedPrecondition: Another one has its id.
        """
        if self.enrollment_key != key_fingerprint:
            raise FailedPrecondition(f"another device has the id {self.id}", hint="make a new key and enroll with that")


def minute(instant: datetime) -> str:
    """An instant as messages show it."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"
