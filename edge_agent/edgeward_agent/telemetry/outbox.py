"""The outbox: telemetry that waits for the coordinator, bounded, on disk, for every process of the device.

Each record that was appended is delivered exactly once or counted as dropped,
and the count is delivered too. The state of the disk never stops a device:
records wait in memory while it takes no write (at most `MAX_WAITING`, and a kill
loses those), a damaged database is put aside and a fresh one begun.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections import Counter, deque
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from edgeward.protocol.telemetry import CounterIncrements, DeviceEvent, TelemetryRecord, serialize_record
from edgeward_agent.telemetry.importance import Kind, kind_of
from edgeward_agent.telemetry.store import OutboxSize, OutboxStore, SealedBatch, WaitingRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

DEFAULT_MAX_BYTES = 64 << 20

# A longer record is dropped: it would push out many that are worth more, and one that the coordinator finds beyond
# reason (10,000 characters of an event's detail) would spoil the batch that it is in.
MAX_RECORD_BYTES = 8 * 1024

# Records that wait in memory while the disk takes none.
MAX_WAITING = 1000

# The last two: tables or rows that are not as we made them; our own statements cause neither.
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}

# The connection is as good as before; on a full disk another could not even be opened.
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}


class Outbox:
    """Opened at the first use, and again whenever it has to be. Safe for several threads and processes.

    Nothing here raises for the state of the disk; `problem` says it in words.

    Args:
        path: The database. Its folder must exist.
        max_bytes: The bound of all that waits. None: what this outbox was given last, else `DEFAULT_MAX_BYTES`.
        clock: Gives the time of what the outbox itself has to say.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = Lock()
        self._store: OutboxStore | None = None
        self._inode = 0
        self._waiting: deque[WaitingRecord] = deque()
        self._given_up: Counter[Kind] = Counter()
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the last use of the disk failed, in words; empty where it did not."""
        return self._problem

    def append(self, record: TelemetryRecord) -> None:
        """Keep a record until the coordinator has it.

        Raises:
            WireError: A number in it is not finite; no coordinator would take it.
        """
        waiting = WaitingRecord(kind=kind_of(record.body), payload=serialize_record(record))
        with self._lock:
            self._wait(waiting)
            self._flush_waiting()

    def seal(self) -> int:
        """Make one batch of what waits, its bytes fixed for ever.

        Returns:
            How many records it holds; 0 where there was nothing to seal, or the disk took no write.
        """
        with self._lock:
            self._flush_waiting()
            return self._attempt(lambda store: store.seal(self._report), otherwise=0)

    def unacknowledged(self, limit_bytes: int) -> list[SealedBatch]:
        """The oldest batches to send, together about `limit_bytes`, at least one where there is one."""
        with self._lock:
            return self._attempt(lambda store: store.offer(limit_bytes), otherwise=[])

    def acknowledge(self, sequences: Iterable[int]) -> None:
        """Forget what the coordinator says that it has; where that fails it is sent and acknowledged once more."""
        confirmed = list(sequences)
        with self._lock:
            self._attempt(lambda store: store.acknowledge(confirmed), otherwise=None)

    def size(self) -> OutboxSize:
        """What waits, sealed or not."""
        with self._lock:
            self._flush_waiting()
            held = self._attempt(lambda store: store.size(), otherwise=OutboxSize(records=0, bytes=0))
            here = sum(record.cost_bytes for record in self._waiting)
            return OutboxSize(records=held.records + len(self._waiting), bytes=held.bytes + here)

    def close(self) -> None:
        """Write what waits in memory and close; used again, it opens again."""
        with self._lock:
            self._flush_waiting()
            if self._waiting:
                _LOG.error("%d telemetry records are lost: %s", len(self._waiting), self._problem)
            self._close_store()

    def _wait(self, record: WaitingRecord) -> None:
        if len(record.payload) > MAX_RECORD_BYTES:
            self._given_up[record.kind] += 1
            return
        self._waiting.append(record)
        if len(self._waiting) > MAX_WAITING:
            self._given_up[self._waiting.popleft().kind] += 1

    def _flush_waiting(self) -> None:
        if not self._waiting and not self._given_up:
            return
        records, dropped = list(self._waiting), dict(self._given_up)
        if self._attempt(lambda store: store.append(records, dropped), otherwise=None) is not None:
            self._waiting.clear()
            self._given_up.clear()
            self._problem = ""

    def _attempt(self, operation: Callable[[OutboxStore], _T], *, otherwise: _T) -> _T:
        """Do it; `otherwise` where the disk does not let us."""
        try:
            try:
                result = operation(self._opened())
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                self._reset(error)
                result = operation(self._opened())
        except (sqlite3.Error, OSError) as error:
            if _code(error) not in _PASSING:
                self._close_store()
            if str(error) != self._problem:
                _LOG.warning("the outbox %s can't be used: %s", self._path, error)
            self._problem = str(error)
            return otherwise
        if not self._waiting:
            self._problem = ""
        return result

    def _opened(self) -> OutboxStore:
        """The store, opened anew where the file is not the one that was opened: another process put it aside."""
        if self._store is not None and _inode(self._path) != self._inode:
            self._close_store()
        if self._store is None:
            with self._opening():
                if not self._path.exists():
                    self._remove_journal()
                self._open()
        if self._store is None:
            raise sqlite3.OperationalError("the outbox is closed")
        return self._store

    def _open(self) -> None:
        self._store = OutboxStore(self._path, max_bytes=self._max_bytes, default_max_bytes=DEFAULT_MAX_BYTES)
        self._inode = _inode(self._path)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):
                store.close()

    def _reset(self, reason: sqlite3.Error) -> None:
        """Put the damaged database aside and begin a fresh one, unless another process has done so."""
        damaged = self._inode if self._store is not None else _inode(self._path)
        self._close_store()
        with self._opening():
            if _inode(self._path) != damaged:
                return
            aside = self._put_aside()
            self._open()
        _LOG.error("the outbox was damaged (%s) and begins anew; what it held is in %s", reason, aside.name)
        detail = {"reason": str(reason), "kept_as": aside.name}
        event = TelemetryRecord(at=self._clock(), body=DeviceEvent(kind="outbox_reset", detail=detail))
        self._opened().append([WaitingRecord(kind="events", payload=serialize_record(event))], {})

    def _put_aside(self) -> Path:
        """Rename it; of what was put aside before, nothing stays, so that the disk does not fill."""
        prefix = f"{self._path.stem}.corrupt-"
        former = list(self._path.parent.glob(f"{prefix}*"))
        numbers = [int(path.name.removeprefix(prefix)) for path in former if path.name.removeprefix(prefix).isdigit()]
        aside = self._path.with_name(f"{prefix}{max(numbers, default=0) + 1}")
        # The database before its journal: a journal alone is removed when the next one is opened, while a database
        # that lost its journal could open, at an earlier state, and give sequences out twice.
        self._path.replace(aside)
        self._remove_journal()
        for path in former:
            path.unlink(missing_ok=True)
        return aside

    def _remove_journal(self) -> None:
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """One process at a time makes, opens or puts aside the file."""
        descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _report(self, increments: Mapping[str, float]) -> bytes:
        return serialize_record(TelemetryRecord(at=self._clock(), body=CounterIncrements(increments=increments)))


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is no outbox, as against one that can't be used at this moment."""
    code = _code(error)
    if code is None:
        return type(error) is sqlite3.DatabaseError  # raised by the store itself
    return code in _CORRUPT


def _code(error: Exception) -> int | None:
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else int(extended) & 0xFF
