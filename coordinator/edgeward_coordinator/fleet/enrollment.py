"""Enrollment tokens: good for a number of devices, for a while, for one group.

A token is usable until its last use is spent or its time has come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import InvalidArgument, Unauthenticated

if TYPE_CHECKING:
    from datetime import datetime

MAX_USES = 1_000_000
MAX_LIFETIME = timedelta(days=365)

_NEW_TOKEN = "make a new one with `edgeward devices token`"  # noqa: S105 - a hint, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentToken:
    """One token; its secret is shown once and stored nowhere."""

    id: str
    group: str
    uses_total: int
    uses_left: int
    expires_at: datetime
    created_at: datetime
    created_by: str

    def verify_usable(self, now: datetime) -> None:
        """Check that a device may still enroll with it.

        Raises:
            Unauthenticated: It is expired or spent.
        """
        self.verify_not_expired(now)
        if self.uses_left <= 0:
            devices = "1 device" if self.uses_total == 1 else f"{self.uses_total} devices"
            raise Unauthenticated(
                f"this enrollment token is spent: it was good for {devices}, all of which have enrolled",
                hint=_NEW_TOKEN,
            )

    def verify_not_expired(self, now: datetime) -> None:
        """Check its time only.

        Raises:
            Unauthenticated: It is expired.
        """
        if now >= self.expires_at:
            raise Unauthenticated(
                f"this enrollment token expired at {self.expires_at:%Y-%m-%d %H:%M} UTC", hint=_NEW_TOKEN
            )


def verify_terms(*, uses: int, expires_in: timedelta) -> None:
    """Check what a new token is to be good for.

    Raises:
        InvalidArgument: No uses, no time, or more than is sane.
    """
    if not 1 <= uses <= MAX_USES:
        raise InvalidArgument(f"an enrollment token for {uses} devices", hint=f"give 1 to {MAX_USES}")
    if not timedelta() < expires_in <= MAX_LIFETIME:
        raise InvalidArgument(
            f"an enrollment token for a time of {expires_in}",
            hint=f"give a positive time of at most {MAX_LIFETIME.days} days",
        )


def device_id_of(*, token_id: str, key_fingerprint: str) -> str:
    """The id of the device that enrolls with this token and key: 16 hexadecimal digits.

    The same question gives the same id, so a device that was answered but never
    got the answer (its power failed, the network did) asks again and is the same
    device: no second use of the token is spent, no ghost stays in the list.
    """
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{token_id}:{key_fingerprint}:{attempt}".encode()).hexdigest()[:16]
        if int(digest, 16) > 1:  # 0 and 1 are taken in Flower's node ids
            return digest
        attempt += 1
