"""What is done to the outbox's tables, each in one transaction.

Appends commit with synchronous=NORMAL: a power cut may take the last of them but
never the order, and a killed process loses none. What makes a batch's bytes
final (sealing, offering) commits with FULL: were a batch sent and its sealing
then lost, its sequence would return with other bytes.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.telemetry import seal_records
from edgeward_agent.telemetry.importance import DROPPED, Kind, importance_of
from edgeward_agent.telemetry.schema import ROW_BYTES, VERSION, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# Of one batch, before compression: far below what the coordinator takes, and small enough to repeat on a bad line.
SEAL_BYTES = 256 * 1024
SEAL_RECORDS = 1000

# Room for a batch that holds nothing but the counts of what was dropped.
_REPORT_BYTES = 256

_BUSY_S = 2.0

# Given back to the file system at each acknowledgement: more than a batch, and never a long pause.
_VACUUM_PAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRecord:
    """A record as it is stored."""

    kind: Kind
    payload: bytes

    @property
    def cost_bytes(self) -> int:
        """What it takes of the bound."""
        return len(self.payload) + ROW_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBatch:
    """What is sent, named for ever by (device, epoch, sequence)."""

    epoch: str
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSize:
    """What waits for the coordinator, sealed or not."""

    records: int
    bytes: int


class OutboxStore:
    """One connection. Not thread-safe; several processes may each have one.

    Raises:
        sqlite3.Error: The file can't be opened, or is no outbox.
    """

    def __init__(self, path: Path, *, max_bytes: int | None, default_max_bytes: int) -> None:
        self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            self.epoch = self._meta("epoch") or ""
            if max_bytes is not None:
                self._set_meta("max_bytes", str(max_bytes))
            self._max_bytes = int(self._meta("max_bytes") or default_max_bytes)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def append(self, records: Sequence[WaitingRecord], dropped: Mapping[Kind, int]) -> OutboxSize:
        """Store records, making room where there is too little, and count what was given up before.

        Returns:
            What waits now.
        """
        with self._transaction():
            self._count_dropped(dropped)
            for record in records:
                if self._make_room(record):
                    self._connection.execute(
                        "INSERT INTO record (kind, importance, payload) VALUES (?, ?, ?)",
                        (record.kind, importance_of(record.kind), record.payload),
                    )
                else:
                    self._count_dropped({record.kind: 1})
            return self.size()

    def seal(self, report: Callable[[Mapping[str, float]], bytes]) -> int:
        """Make a batch of the oldest records, and of the counts of what was dropped.

        Args:
            report: Makes a record of increments.

        Returns:
            How many records the batch holds; 0 where there was nothing to seal. Counts alone wait while the outbox is
            full: else a link that never answers would fill it past its bound with batches that say what was dropped.
        """
        with self._transaction(durable=True):
            rows = self._oldest_records()
            dropped = dict(self._connection.execute("SELECT kind, count FROM dropped").fetchall())
            payloads = [payload for _, _, payload in rows]
            if dropped and not rows and self._is_full():
                return 0
            if dropped:
                payloads.append(report({f"{DROPPED}{kind}": float(count) for kind, count in dropped.items()}))
            if not payloads:
                return 0
            losses = Counter(kind for _, kind, _ in rows) + Counter(dropped)
            self._connection.execute(
                "INSERT INTO batch (payload, records, losses) VALUES (?, ?, ?)",
                (seal_records(payloads), len(payloads), json.dumps(losses)),
            )
            self._connection.execute("DELETE FROM record WHERE id <= ?", (rows[-1][0] if rows else 0,))
            self._connection.execute("DELETE FROM dropped")
            return len(payloads)

    def offer(self, limit_bytes: int) -> list[SealedBatch]:
        """The oldest batches, at least one where there is one; from now on none of these is ever dropped.

        Whether the coordinator has one of them can't be known until it says so, and to drop one would count as
        lost what may have arrived.
        """
        with self._transaction(durable=True):
            batches: list[SealedBatch] = []
            taken = 0
            for sequence, payload in self._connection.execute("SELECT sequence, payload FROM batch ORDER BY sequence"):
                taken += len(payload)
                if batches and taken > limit_bytes:
                    break
                batches.append(SealedBatch(epoch=self.epoch, sequence=sequence, payload=payload))
            if batches:
                self._connection.execute(
                    "UPDATE batch SET offered = 1 WHERE sequence <= ? AND offered = 0", (batches[-1].sequence,)
                )
            return batches

    def acknowledge(self, sequences: Iterable[int]) -> None:
        """Delete what the coordinator has; what was never offered is not meant, whoever says so."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM batch WHERE sequence = ? AND offered = 1", [(sequence,) for sequence in sequences]
            )
        # A page a step, and `execute` takes one step of a statement that gives no rows.
        self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def size(self) -> OutboxSize:
        """The totals."""
        row = self._connection.execute("SELECT records, bytes FROM held").fetchone()
        if row is None:
            raise sqlite3.DatabaseError("an outbox without its totals")
        records, size_bytes = row
        return OutboxSize(records=records, bytes=size_bytes)

    def _prepare(self) -> None:
        execute = self._connection.execute
        # Before the first table, or it has no effect: acknowledged room goes back to the device.
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA journal_mode = WAL").fetchall()
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA cache_size = -512")
        execute("PRAGMA wal_autocheckpoint = 256")
        execute("PRAGMA journal_size_limit = 1048576").fetchall()
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._create()
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"an outbox of version {version}, this agent writes {VERSION}")

    def _create(self) -> None:
        with self._transaction(durable=True):
            if self._connection.execute("PRAGMA user_version").fetchone() != (0,):
                return
            for statement in statements():
                self._connection.execute(statement)
            self._set_meta("epoch", secrets.token_hex(8))

    def _is_full(self) -> bool:
        size = self.size()
        return size.records > 0 and size.bytes + _REPORT_BYTES > self._max_bytes

    def _make_room(self, record: WaitingRecord) -> bool:
        """Drop what matters less, or as little and longer; False where all that is left matters more."""
        while self.size().bytes + record.cost_bytes > self._max_bytes:
            if not self._drop_one(importance_of(record.kind)):
                return False
        return True

    def _drop_one(self, importance: int) -> bool:
        execute = self._connection.execute
        row = execute("SELECT id, kind, importance FROM record ORDER BY importance, id LIMIT 1").fetchone()
        if row is not None:
            identifier, kind, least = row
            if least > importance:
                return False
            execute("DELETE FROM record WHERE id = ?", (identifier,))
            self._count_dropped({kind: 1})
            return True
        row = execute("SELECT sequence, losses FROM batch WHERE offered = 0 ORDER BY sequence LIMIT 1").fetchone()
        if row is None:
            return False
        sequence, losses = row
        execute("DELETE FROM batch WHERE sequence = ?", (sequence,))
        self._count_dropped(_decode_losses(losses))
        return True

    def _count_dropped(self, counts: Mapping[Kind, int]) -> None:
        self._connection.executemany(
            "INSERT INTO dropped VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
            list(counts.items()),
        )

    def _oldest_records(self) -> list[tuple[int, str, bytes]]:
        taken: list[tuple[int, str, bytes]] = []
        size_bytes = 0
        query = "SELECT id, kind, payload FROM record ORDER BY id LIMIT ?"
        for row in self._connection.execute(query, (SEAL_RECORDS,)):
            size_bytes += len(row[2])
            if taken and size_bytes > SEAL_BYTES:
                break
            taken.append(row)
        return taken

    def _meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        if self._meta(key) != value:
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        if durable:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")


def _decode_losses(text: str) -> dict[Kind, int]:
    try:
        losses: dict[Kind, int] = json.loads(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a batch without the count of what it holds: {error}") from error
    return losses
