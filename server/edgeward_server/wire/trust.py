"""The messages of `TrustService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import trust_pb2

if TYPE_CHECKING:
    from edgeward_coordinator.trust import TrustKey, TrustRole, TrustStatus


def status_to_message(status: TrustStatus) -> trust_pb2.GetTrustResponse:
    """To its message."""
    return trust_pb2.GetTrustResponse(
        roles=[_role_to_message(role) for role in status.roles], keys=[_key_to_message(key) for key in status.keys]
    )


def _role_to_message(role: TrustRole) -> trust_pb2.TrustRole:
    return trust_pb2.TrustRole(
        name=role.name,
        key_ids=role.key_ids,
        threshold=role.threshold,
        version=role.version,
        expires_at=timestamp_from_instant(role.expires_at) if role.expires_at else None,
        prefix=role.prefix,
        targets=role.targets,
        pending_signatures=role.pending_signatures,
    )


def _key_to_message(key: TrustKey) -> trust_pb2.TrustKey:
    return trust_pb2.TrustKey(id=key.id, public_pem=key.public_pem, held=key.held)
