"""One database, SQLite or PostgreSQL, behind two ways in: `read` and `change`.

Whoever changes something says who they are and what they do; the entry of the
audit log is written in the same transaction, so there is no change without its
entry and no entry without its change. `write` is for what devices cause
(heartbeats, telemetry): facts, not decisions, hence not audited.

SQLite runs in WAL mode; writers take the lock when they begin (BEGIN IMMEDIATE),
so a writer waits rather than fails in the middle. Those of this process wait for
one another at a lock of ours before that: SQLite's own way of waiting is to sleep
and look again, and with many writers the lock lies idle while all of them sleep. A reader sees one state from
its first statement to its last on both databases, and can't write.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, Unavailable
from edgeward_coordinator.storage.audit import append_audit_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.pool import ConnectionPoolEntry

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 10
_URL_HINT = "give sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who does what to what; becomes one entry of the audit log."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


class Database:
    """The engine and its transactions.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://…`.
        clock: The instant now, aware UTC.

    Raises:
        InvalidArgument: The URL names neither of the two databases.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.engine = _create_engine(url)
        self.clock = clock
        self._readers = self.engine
        self._is_closed = False
        event.listen(self.engine, "checkin", self._give_up_if_closed)
        self._writing = Lock() if self.engine.dialect.name == "sqlite" else None
        if self.engine.dialect.name == "postgresql":
            # The same pool; psycopg puts both into its BEGIN, so they cost no round trip.
            self._readers = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to look with; sees one consistent state.

        Raises:
            Unavailable: The database does not answer.
        """
        with _errors_of_ours(), self._readers.connect() as connection:
            transaction = connection.begin()
            if connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA query_only=ON"))
                connection.execute(text("BEGIN"))
            try:
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction for facts that devices report; committed on leaving, rolled back on an error.

        Args:
            durable: Whether it must be on disk when this returns. False for what is said again
                within seconds (a heartbeat): a power cut may then forget it, and no disk is waited for.

        Raises:
            Unavailable: The database does not answer.
        """
        with self._turn_to_write(), _errors_of_ours(), self.engine.connect() as connection, connection.begin():
            _begin_writing(connection, durable=durable)
            yield connection

    @contextmanager
    def change(self, change: Change) -> Iterator[Connection]:
        """A transaction for a decision; the audit entry is part of it.

        Raises:
            Unavailable: The database does not answer.
        """
        with self.write() as connection:
            yield connection
            append_audit_entry(
                connection,
                at=self.clock(),
                actor=change.actor,
                action=change.action,
                subject=change.subject,
                detail=change.detail,
            )

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if self._writing is None:
            yield
            return
        if not self._writing.acquire(timeout=_BUSY_TIMEOUT_S):
            raise Unavailable(
                f"the database does not answer: others have written for {_BUSY_TIMEOUT_S} s", hint="try again"
            )
        try:
            yield
        finally:
            self._writing.release()

    def close(self) -> None:
        """Give the connections back; idempotent. Those that are in use at this moment go when their users are done."""
        self._is_closed = True
        self.engine.dispose()

    def _give_up_if_closed(self, _connection: object, record: ConnectionPoolEntry) -> None:
        # Its pool is gone, so nobody else would ever close it.
        if self._is_closed:
            record.invalidate()


def _create_engine(url: str) -> Engine:
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        _watch_file(engine, Path(parsed.database or ""))
        return engine
    return create_engine(
        parsed, pool_pre_ping=True, pool_size=8, max_overflow=8, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S}
    )


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # The URL stays out of the message: it may hold a password.
        raise InvalidArgument("the database's URL can't be read", hint=_URL_HINT) from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case backend:
            raise InvalidArgument(f"unsupported database {backend!r}", hint=_URL_HINT)


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    connection.isolation_level = None  # transactions are begun by us, see `read` and _begin_writing
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _watch_file(engine: Engine, path: Path) -> None:
    """Refuse to go on with a database file that was removed or replaced.

    SQLite itself would write on into a file without a name, and lose it all.
    """
    opened: list[tuple[int, int] | None] = []

    def verify_same(*_event: object) -> None:
        if opened and _file_identity(path) != opened[0]:
            raise Unavailable(
                f"the database file {path} was removed or replaced while it was in use",
                hint="put it back, or restart the coordinator on the new one",
            )

    def remember(*_event: object) -> None:
        if not opened:
            opened.append(_file_identity(path))

    # Before a new connection too: SQLite would make an empty file in the place of the one that is gone.
    event.listen(engine, "do_connect", verify_same)
    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", verify_same)


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _begin_writing(connection: Connection, *, durable: bool) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA query_only=OFF"))
        connection.execute(text(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}"))
        connection.execute(text("BEGIN IMMEDIATE"))
    elif not durable:
        connection.execute(text("SET LOCAL synchronous_commit TO OFF"))


@contextmanager
def _errors_of_ours() -> Iterator[None]:
    """Tell a database that is away, and a value of a caller's that it can't hold, from a mistake of ours."""
    try:
        yield
    except DataError as error:
        raise InvalidArgument(f"a value does not fit into the database: {_first_line(error)}") from error
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if _is_disk_full(error):
            raise Unavailable("the database's disk is full", hint="make room on it, then try again") from error
        raise Unavailable(
            f"the database does not answer: {_first_line(error)}", hint="try again when it is back"
        ) from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:
            raise
        # What SQLite says of a file that is none of its own, or no longer whole.
        raise FailedPrecondition(
            f"the database is damaged: {_first_line(error)}", hint="put it back from a backup"
        ) from error


def _is_disk_full(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(cause, "sqlstate", "") == "53100"


def _first_line(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause).strip().split("\n", 1)[0]


def wait_for_database(database: Database, *, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait at start until the database answers; once it had to, the log says for what.

    Raises:
        Unavailable: It did not within `patience_s`.
    """
    pause_s, is_told = 0.1, False
    while True:
        try:
            with database.read() as connection:
                connection.execute(text("SELECT 1"))
            return
        except Unavailable as error:
            if patience_s <= 0:
                raise
            if not is_told:
                logger.warning("waiting for the database: %s", error.message)
                is_told = True
            sleep(pause_s)
            patience_s -= pause_s
            pause_s = min(2 * pause_s, 2.0)
