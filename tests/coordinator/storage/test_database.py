"""Transactions on both databases, and what is said when the database is away."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, text, update

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, Unavailable
from edgeward_coordinator.storage import (
    Database,
    migrate,
    newest_generation,
    next_generation,
    schema,
    wait_for_database,
)
from tests.postgres import PostgresServer, find_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import SetClock


def _values(database: Database) -> dict[str, str]:
    with database.read() as connection:
        return {row.name: row.value for row in connection.execute(select(schema.setting))}


def _put(database: Database, name: str, value: str = "x", *, durable: bool = True) -> None:
    with database.write(durable=durable) as connection:
        connection.execute(insert(schema.setting).values(name=name, value=value))


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "soon"])
def test_what_is_written_is_there(database: Database, durable: bool) -> None:  # noqa: FBT001
    """A transaction is committed on leaving, whether or not it waits for the disk."""
    _put(database, "a", durable=durable)
    assert _values(database) == {"a": "x"}


def test_an_error_rolls_back(database: Database) -> None:
    """Nothing of a transaction that fails stays."""

    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(schema.setting).values(name="a", value="x"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _values(database) == {}


def test_a_reader_sees_one_state(database: Database) -> None:
    """What is committed while a reader looks does not appear in the middle."""
    with database.read() as connection:
        before = connection.execute(select(schema.setting)).all()
        _put(database, "a")
        after = connection.execute(select(schema.setting)).all()
    assert before == after == []
    assert _values(database) == {"a": "x"}


def test_a_reader_cannot_write(database: Database) -> None:
    """A change that forgot to say that it is one fails rather than go unaudited."""
    with pytest.raises(Exception, match=r"read-?only"), database.read() as connection:
        connection.execute(insert(schema.setting).values(name="a", value="x"))
    assert _values(database) == {}
    _put(database, "a")


def test_writers_wait_for_each_other(database: Database) -> None:
    """Reading and then writing back loses no update, since writers take their lock when they begin."""
    with database.write() as connection:
        connection.execute(insert(schema.counter).values(name="n", value=0))
    table = schema.counter

    def count() -> None:
        with database.write() as connection:
            value = connection.execute(select(table.c.value).where(table.c.name == "n").with_for_update()).scalar_one()
            connection.execute(update(table).where(table.c.name == "n").values(value=value + 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: count(), range(40)))
    with database.read() as connection:
        assert connection.execute(select(table.c.value).where(table.c.name == "n")).scalar_one() == 40


def test_generations_count_up(database: Database) -> None:
    """Each is one more than the last, and the newest can be asked for."""

    def take(_: int) -> int:
        with database.write() as connection:
            return next_generation(connection)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(take, range(20))) == list(range(1, 21))
    with database.read() as connection:
        assert newest_generation(connection) == 20


def test_a_value_that_does_not_fit_is_the_callers_mistake(database: Database) -> None:
    """PostgreSQL holds no text with a NUL; SQLite does, so there is nothing to refuse."""
    if database.engine.dialect.name == "sqlite":
        _put(database, "a\0b")
        return
    with pytest.raises(InvalidArgument, match="does not fit"):
        _put(database, "a\0b")


@pytest.mark.parametrize(
    "url",
    ["mysql://host/name", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://host:port/name", ""],
    ids=["another-kind", "no-url", "no-file", "in-memory", "bad-port", "empty"],
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    """The message says what can be given."""
    with pytest.raises(InvalidArgument, match="postgresql\\+psycopg://"):
        Database(url)


def test_a_url_never_shows_in_a_message() -> None:
    """It may hold a password."""
    with pytest.raises(InvalidArgument) as caught:
        Database("postgresql://user:secret@host:notaport/name")
    assert "secret" not in str(caught.value)


def test_a_sqlite_file_that_was_removed_is_noticed(tmp_path: Path, clock: SetClock) -> None:
    """SQLite would go on writing into the file without a name, and lose everything."""
    path = tmp_path / "edgeward.db"
    database = Database(f"sqlite:///{path}", clock=clock)
    migrate(database)
    moved = path.rename(tmp_path / "moved.db")
    with pytest.raises(Unavailable, match="removed or replaced"):
        _put(database, "a")
    moved.rename(path)
    _put(database, "a")
    assert _values(database) == {"a": "x"}
    database.close()


def test_a_sqlite_folder_that_is_missing_is_unavailable(tmp_path: Path) -> None:
    """A disk that is not mounted is away, not a mistake of ours."""
    database = Database(f"sqlite:///{tmp_path}/missing/edgeward.db")
    with pytest.raises(Unavailable, match="unable to open"):
        _values(database)


def test_a_file_that_is_no_database_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Nobody but who has the backup can mend it, so nothing waits for it."""
    path = tmp_path / "edgeward.db"
    path.write_bytes(b"junk" * 2048)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(FailedPrecondition, match=r"damaged.*backup"):
        wait_for_database(database, patience_s=60)


def test_a_full_disk_is_told_as_one(database: Database) -> None:
    """It is not a database that is away: somebody has to make room."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("SQLite can be told how large its file may be")
    with database.read() as connection:  # the pool hands the same connection out again
        connection.execute(text("PRAGMA max_page_count=1"))
    with pytest.raises(Unavailable, match="full; make room"):
        _put(database, "a", "x" * 1_000_000)


@pytest.mark.postgres
def test_a_postgres_that_stops_is_unavailable_until_it_is_back(clock: SetClock) -> None:
    """Calls fail with the reason while it is away, and succeed afterwards on the same object."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL")
    with PostgresServer(programs) as server:
        database = Database(server.create_database(), clock=clock)
        migrate(database)
        _put(database, "a")
        server.stop()
        with pytest.raises(Unavailable, match="does not answer") as caught:
            _put(database, "b")
        assert caught.value.retry_after.total_seconds() > 0
        with pytest.raises(Unavailable):
            wait_for_database(database, patience_s=0.3, sleep=lambda _: None)
        server.start()
        wait_for_database(database, patience_s=10)
        assert _values(database) == {"a": "x"}
        _put(database, "b")
        database.close()


def test_waiting_ends_when_the_database_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A coordinator that starts before its database waits for it, and says so once."""
    folder = tmp_path / "late"
    database = Database(f"sqlite:///{folder}/edgeward.db")
    pauses = iter([lambda: None, folder.mkdir])
    wait_for_database(database, patience_s=5, sleep=lambda _: next(pauses)())
    assert [line.split(":")[0] for line in caplog.messages] == ["waiting for the database"]
    migrate(database)
    assert _values(database) == {}
    database.close()


def test_closing_twice_is_harmless(database: Database) -> None:
    """Shutdown paths may meet."""
    database.close()
    database.close()


def test_a_connection_in_use_is_closed_when_its_user_is_done(database_url: str, clock: SetClock) -> None:
    """A thread may still look when the coordinator stops; a connection that nobody closes is a warning."""
    own = Database(database_url, clock=clock)
    with own.read() as connection:
        connection.execute(text("SELECT 1"))
        own.close()
    del connection, own
    gc.collect()
