"""What an operator proves who they are with, and who they then are.

The states of a credential: usable, until it expires or is revoked; revoked is
for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import Unauthenticated

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward_coordinator.access.roles import Role


class CredentialKind(StrEnum):
    """How it is shown: a secret in the call's metadata, or a client certificate."""

    TOKEN = "token"  # noqa: S105 - the word, not a secret
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One token or certificate of an operator. Its secret is not here: nothing but its hash is kept."""

    id: str
    kind: CredentialKind
    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None

    def verify_usable(self, now: datetime) -> None:
        """Check that it still opens the door.

        Raises:
            Unauthenticated: It is revoked or expired, and since when.
        """
        if self.revoked_at is not None:
            raise Unauthenticated(
                f"the {self.kind} {self.name!r} was revoked at {self.revoked_at:%Y-%m-%d %H:%M} UTC",
                hint="ask an admin for a new one",
            )
        if self.expires_at is not None and now >= self.expires_at:
            raise Unauthenticated(
                f"the {self.kind} {self.name!r} expired at {self.expires_at:%Y-%m-%d %H:%M} UTC",
                hint="ask an admin for a new one",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An operator who has proved who they are."""

    name: str
    role: Role
    credential_id: str
