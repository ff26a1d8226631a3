"""The audit log, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.v1 import audit_pb2, audit_pb2_grpc
from edgeward_server.threads import in_thread
from edgeward_server.wire.audit import entry_to_message, report_to_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    import grpc

    from edgeward_coordinator.storage import AuditLog

    Context = grpc.aio.ServicerContext[Any, Any]

_ENTRIES_AT_ONCE = 500
_LAST = 2**63 - 1


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Reads the log; nothing here writes it."""

    def __init__(self, *, audit: AuditLog) -> None:
        self._audit = audit

    async def ListEntries(
        self, request: audit_pb2.ListEntriesRequest, context: Context
    ) -> AsyncIterator[audit_pb2.AuditEntry]:
        """Entries from a number on, in order."""
        after, left = min(request.after, _LAST), request.limit or _LAST
        while left > 0:
            entries = await in_thread(self._audit.entries, after=after, limit=min(left, _ENTRIES_AT_ONCE))
            if not entries:
                return
            for entry in entries:
                yield entry_to_message(entry)
            after, left = entries[-1].number, left - len(entries)

    async def VerifyChain(
        self, request: audit_pb2.VerifyChainRequest, context: Context
    ) -> audit_pb2.VerifyChainResponse:
        """Walk the whole chain."""
        return report_to_message(await in_thread(self._audit.verify))
