"""The audit log: complete, in order, and whatever is done to it shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, insert, select, update

from edgeward_coordinator.storage import AuditLog, Change, schema
from edgeward_coordinator.storage.audit import append_audit_entry, entry_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock

_TABLE = schema.audit_entry


def _change(number: int) -> Change:
    return Change(actor="alice", action="thing.do", subject=f"thing {number}", detail={"number": number})


def _fill(database: Database, count: int = 5) -> None:
    for number in range(1, count + 1):
        with database.change(_change(number)):
            pass


def test_every_change_has_its_entry(database: Database, clock: SetClock) -> None:
    """An entry says who did what to what and when, and follows from the one before."""
    _fill(database, 2)
    first, second = AuditLog(database).entries(after=0, limit=10)
    assert (first.number, first.actor, first.action, first.subject) == (1, "alice", "thing.do", "thing 1")
    assert (first.detail, first.at) == ('{"number":1}', clock.now)
    assert second.previous_hash == first.hash
    assert first.previous_hash == "0" * 64


def test_a_change_that_fails_leaves_no_entry(database: Database) -> None:
    """The entry is part of the change's transaction."""
    _fill(database, 1)
    with pytest.raises(ZeroDivisionError), database.change(_change(2)):
        raise ZeroDivisionError
    _fill(database, 1)
    assert [entry.number for entry in AuditLog(database).entries(after=0, limit=10)] == [1, 2]
    assert AuditLog(database).verify().is_intact


def test_entries_come_in_pages(database: Database) -> None:
    """A reader goes on after the last number it has."""
    _fill(database)
    log = AuditLog(database)
    assert [entry.number for entry in log.entries(after=0, limit=2)] == [1, 2]
    assert [entry.number for entry in log.entries(after=2, limit=2)] == [3, 4]
    assert log.entries(after=5, limit=2) == []


def test_an_intact_chain_is_intact(database: Database) -> None:
    """The verdict counts the entries and names the head, to be noted elsewhere."""
    _fill(database)
    report = AuditLog(database).verify()
    assert (report.is_intact, report.entries, report.first_broken, report.problem) == (True, 5, 0, "")
    assert report.head_hash == AuditLog(database).entries(after=4, limit=1)[0].hash


def test_an_empty_chain_is_intact(database: Database) -> None:
    """Nothing has happened, and nothing is wrong."""
    assert AuditLog(database).verify().is_intact


def _alter(connection: Connection) -> None:
    connection.execute(update(_TABLE).where(_TABLE.c.number == 3).values(actor="mallory"))


def _alter_with_hash(connection: Connection) -> None:
    row = connection.execute(select(_TABLE).where(_TABLE.c.number == 3)).one()
    forged = entry_hash(
        previous_hash=row.previous_hash,
        number=3,
        at=row.at,
        actor="mallory",
        action=row.action,
        subject=row.subject,
        detail=row.detail,
    )
    connection.execute(update(_TABLE).where(_TABLE.c.number == 3).values(actor="mallory", hash=forged))


def _remove(connection: Connection) -> None:
    connection.execute(delete(_TABLE).where(_TABLE.c.number == 3))


def _truncate(connection: Connection) -> None:
    connection.execute(delete(_TABLE).where(_TABLE.c.number > 3))


def _insert(connection: Connection) -> None:
    row = connection.execute(select(_TABLE).where(_TABLE.c.number == 3)).one()
    for number in (5, 4):
        connection.execute(update(_TABLE).where(_TABLE.c.number == number).values(number=number + 1))
    connection.execute(insert(_TABLE).values({**row._mapping, "number": 4}))


def _append(connection: Connection) -> None:
    row = connection.execute(select(_TABLE).where(_TABLE.c.number == 5)).one()
    connection.execute(insert(_TABLE).values({**row._mapping, "number": 6, "previous_hash": row.hash}))


def _lose_head(connection: Connection) -> None:
    connection.execute(delete(schema.audit_head))


@pytest.mark.parametrize(
    ("tamper", "first_broken"),
    [
        pytest.param(_alter, 3, id="altered"),
        pytest.param(_alter_with_hash, 4, id="altered-and-hashed-again"),
        pytest.param(_remove, 3, id="removed"),
        pytest.param(_truncate, 4, id="truncated"),
        pytest.param(_insert, 4, id="inserted"),
        pytest.param(_append, 6, id="appended-past-the-head"),
        pytest.param(_lose_head, 1, id="without-its-head"),
    ],
)
def test_tampering_shows(database: Database, tamper: Callable[[Connection], None], first_broken: int) -> None:
    """Whatever is done to the table, the walk finds the first entry that does not hold."""
    _fill(database)
    with database.write() as connection:
        tamper(connection)
    report = AuditLog(database).verify()
    assert not report.is_intact
    assert report.first_broken == first_broken
    assert report.problem


def test_writers_at_once_make_one_chain(database: Database) -> None:
    """No two entries claim the same place, and none is lost."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: _fill(database, 5), range(8)))
    report = AuditLog(database).verify()
    assert (report.is_intact, report.entries) == (True, 40)


def test_an_instant_of_another_zone_hashes_as_it_is_read_back(database: Database) -> None:
    """The chain holds whatever the zone of the clock."""
    at = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    with database.write() as connection:
        append_audit_entry(connection, at=at, actor="a", action="b", subject="c", detail={})
    assert AuditLog(database).verify().is_intact
    assert AuditLog(database).entries(after=0, limit=1)[0].at == datetime(2026, 1, 1, 12, tzinfo=UTC)
