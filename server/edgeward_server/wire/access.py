"""The messages of `AccessService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import access_pb2

if TYPE_CHECKING:
    from edgeward_coordinator.access import Credential


def credential_to_message(credential: Credential) -> access_pb2.OperatorToken:
    """To its message; instants that are not there are left out."""
    expires_at, revoked_at = credential.expires_at, credential.revoked_at
    return access_pb2.OperatorToken(
        id=credential.id,
        kind=credential.kind.value,
        name=credential.name,
        role=credential.role.word,
        created_at=timestamp_from_instant(credential.created_at),
        expires_at=timestamp_from_instant(expires_at) if expires_at else None,
        revoked_at=timestamp_from_instant(revoked_at) if revoked_at else None,
    )
