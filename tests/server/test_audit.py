"""The audit log, over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from edgeward.v1 import audit_pb2, audit_pb2_grpc
from edgeward_coordinator.storage import AuditLog, Change
from edgeward_server.servicers.audit import AuditServicer

if TYPE_CHECKING:
    from edgeward_coordinator.storage import Database
    from edgeward_server.servicers.audit import Context
    from tests.server.harness import Running


async def _entries(server: Running, *, after: int = 0, limit: int = 0) -> list[audit_pb2.AuditEntry]:
    stub = audit_pb2_grpc.AuditServiceStub(await server.channel(token=server.admin))
    request = audit_pb2.ListEntriesRequest(after=after, limit=limit)
    return [entry async for entry in stub.ListEntries(request, timeout=60)]


async def test_what_operators_do_is_in_the_log(server: Running) -> None:
    """Under their names, in order."""
    await server.token("viewer", name="ci")
    await server.enroll(name="edge-1")
    entries = await _entries(server)
    assert [(entry.number, entry.actor, entry.action) for entry in entries[:4]] == [
        (1, "coordinator", "trust.create"),
        (2, "coordinator", "credential.create"),
        (3, "first-admin", "credential.create"),
        (4, "first-admin", "enrollment_token.create"),
    ]
    assert entries[4].action == "device.enroll"
    assert '"name":"edge-1"' in entries[4].detail_json


async def test_a_reader_asks_for_a_part(server: Running) -> None:
    """From a number on, at most so many; beyond the end there is nothing."""
    for _ in range(4):
        await server.token("viewer")
    assert [entry.number for entry in await _entries(server, after=3)] == [4, 5, 6]
    assert [entry.number for entry in await _entries(server, after=1, limit=2)] == [2, 3]
    assert await _entries(server, after=2**64 - 1) == []


async def test_a_long_log_is_read_whole(database: Database) -> None:
    """In as many pieces as it takes."""
    for number in range(600):
        with database.change(Change(actor="a", action="b", subject=str(number), detail={})):
            pass
    servicer = AuditServicer(audit=AuditLog(database))
    for limit, expected in ((0, 600), (501, 501), (1000, 600)):
        request = audit_pb2.ListEntriesRequest(limit=limit)
        numbers = [entry.number async for entry in servicer.ListEntries(request, cast("Context", None))]
        assert numbers == list(range(1, expected + 1))


async def test_an_intact_log_is_verified(server: Running) -> None:
    """With the hash of its head, to be noted elsewhere."""
    entries = await _entries(server)
    stub = audit_pb2_grpc.AuditServiceStub(await server.channel(token=server.admin))
    verdict = await stub.VerifyChain(audit_pb2.VerifyChainRequest(), timeout=60)
    assert (verdict.intact, verdict.entries, verdict.first_broken, verdict.problem) == (True, len(entries), 0, "")
    assert verdict.head_hash == entries[-1].hash
