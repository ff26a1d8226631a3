"""One database, SQLite or PostgreSQL, behind two ways in: `read` and `change`.

Whoever changes something says who they are and what they do; the entry of the
audit log is written in the same transaction, so there is no change without its
entry and no entry without its change. `write` is for what devices cause
(heartbeats, telemetry): facts, not decisions, hence not audited.

SQLite runs in WAL mode with foreign locks kept short: writers take the lock when
they begin (BEGIN IMMEDIATE), so a writer waits rather than fails in the middle.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from edgeward_coordinator.errors import InvalidArgument, Unavailable
from edgeward_coordinator.storage.audit import append_audit_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BUSY_TIMEOUT_S = 30


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

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to look with; sees one consistent state."""
        with _as_unavailable(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction for facts that devices report; committed on leaving, rolled back on an error."""
        with _as_unavailable(), self.engine.connect() as connection, _immediate(connection):
            yield connection

    @contextmanager
    def change(self, change: Change) -> Iterator[Connection]:
        """A transaction for a decision; the audit entry is part of it."""
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

    def close(self) -> None:
        """Give the connections back; idempotent."""
        self.engine.dispose()


def _create_engine(url: str) -> Engine:
    backend = make_url(url).get_backend_name()
    if backend == "sqlite":
        engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        return engine
    if backend == "postgresql":
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8, connect_args={"connect_timeout": 10})
    raise InvalidArgument(f"unsupported database {backend!r}", hint="give a sqlite:/// or a postgresql+psycopg:// URL")


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    connection.isolation_level = None  # transactions are begun by us, see _immediate
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


@contextmanager
def _immediate(connection: Connection) -> Iterator[None]:
    with connection.begin():
        if connection.dialect.name == "sqlite":
            connection.execute(text("BEGIN IMMEDIATE"))
        yield


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Tell a database that is away from a mistake of ours."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(
            f"the database does not answer: {_first_line(error)}", hint="nothing was changed; try again when it is back"
        ) from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n", 1)[0]


def wait_for_database(database: Database, *, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait at start until the database answers.

    Raises:
        Unavailable: It did not within `patience_s`.
    """
    pause_s = 0.1
    while True:
        try:
            with database.read() as connection:
                connection.execute(text("SELECT 1"))
            return
        except Unavailable:
            if patience_s <= 0:
                raise
            sleep(pause_s)
            patience_s -= pause_s
            pause_s = min(2 * pause_s, 2.0)
