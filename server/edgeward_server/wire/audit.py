"""The messages of `AuditService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import audit_pb2

if TYPE_CHECKING:
    from edgeward_coordinator.storage import AuditEntry, ChainReport


def entry_to_message(entry: AuditEntry) -> audit_pb2.AuditEntry:
    """To its message."""
    return audit_pb2.AuditEntry(
        number=entry.number,
        at=timestamp_from_instant(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail_json=entry.detail,
        hash=entry.hash,
    )


def report_to_message(report: ChainReport) -> audit_pb2.VerifyChainResponse:
    """To its message."""
    return audit_pb2.VerifyChainResponse(
        intact=report.is_intact,
        entries=report.entries,
        head_hash=report.head_hash,
        first_broken=report.first_broken,
        problem=report.problem,
    )
