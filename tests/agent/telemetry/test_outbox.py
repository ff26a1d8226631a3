"""Tests of `edgeward_agent.telemetry.outbox`."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol import WireError
from edgeward.protocol.telemetry import (
    MAX_PAYLOAD_BYTES,
    CounterIncrements,
    DeviceEvent,
    TelemetryRecord,
    decode_batch,
    serialize_record,
)
from edgeward_agent.telemetry import KINDS, Outbox
from edgeward_agent.telemetry.outbox import MAX_RECORD_BYTES, MAX_WAITING
from edgeward_agent.telemetry.schema import ROW_BYTES
from tests.agent.telemetry.records import NOW, CoordinatorTables, make_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward_agent.telemetry import Kind

ALL = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is."""
    return tmp_path / "outbox.db"


@pytest.fixture
def open_outbox(path: Path) -> Iterator[Callable[..., Outbox]]:
    """Opens outboxes at `path` and closes them."""
    opened: list[Outbox] = []

    def open_one(max_bytes: int | None = None) -> Outbox:
        opened.append(Outbox(path, max_bytes=max_bytes, clock=lambda: NOW))
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


@pytest.fixture
def outbox(open_outbox: Callable[..., Outbox]) -> Outbox:
    """An outbox with room."""
    return open_outbox()


def fill(outbox: Outbox, kind: Kind, numbers: range) -> None:
    """Append records of one kind."""
    for number in numbers:
        outbox.append(make_record(kind, number))


def connection_of(outbox: Outbox) -> sqlite3.Connection:
    """The connection of an outbox that is open."""
    assert outbox._store is not None
    return outbox._store._connection


def cost(kind: Kind) -> int:
    """What a record of a kind takes of the bound."""
    return len(serialize_record(make_record(kind, 1))) + ROW_BYTES


def deliver(outbox: Outbox) -> CoordinatorTables:
    """Seal, send and acknowledge until nothing is left."""
    tables = CoordinatorTables()
    while outbox.seal() or outbox.unacknowledged(ALL):
        outbox.acknowledge(tables.store(outbox.unacknowledged(ALL)))
    return tables


def test_records_are_delivered_in_their_order(outbox: Outbox) -> None:
    """What was appended is what the coordinator gets, and then nothing waits."""
    fill(outbox, "events", range(10))
    assert outbox.size().records == 10
    assert deliver(outbox).numbers() == list(range(10))
    assert (outbox.size().records, outbox.size().bytes) == (0, 0)


def test_nothing_is_sealed_of_nothing(outbox: Outbox) -> None:
    """An idle device makes no batches."""
    assert outbox.seal() == 0
    assert outbox.unacknowledged(ALL) == []


def test_sealed_batch_keeps_its_bytes(open_outbox: Callable[..., Outbox]) -> None:
    """Until it is acknowledged a batch is offered as it was, also by another process and after a restart."""
    first = open_outbox()
    fill(first, "events", range(3))
    first.seal()
    (batch,) = first.unacknowledged(ALL)
    fill(first, "events", range(3, 6))
    first.close()
    assert open_outbox().unacknowledged(ALL) == [batch]


def test_sequences_never_return(outbox: Outbox) -> None:
    """A number that was used names its batch for ever, even when it is gone."""
    seen = []
    for number in range(3):
        outbox.append(make_record("events", number))
        outbox.seal()
        (batch,) = outbox.unacknowledged(ALL)
        seen.append((batch.epoch, batch.sequence))
        outbox.acknowledge([batch.sequence])
    assert len(set(seen)) == 3


def test_offers_at_least_one_and_otherwise_up_to_the_limit(outbox: Outbox) -> None:
    """A limit below a batch does not stop the queue; above it, it bounds what is in flight."""
    for number in range(5):
        outbox.append(make_record("events", number))
        outbox.seal()
    assert [batch.sequence for batch in outbox.unacknowledged(1)] == [1]
    size = len(outbox.unacknowledged(1)[0].payload)
    assert [batch.sequence for batch in outbox.unacknowledged(2 * size + 2)] == [1, 2]


def test_foreign_acknowledgement_deletes_nothing(outbox: Outbox) -> None:
    """Numbers that were never offered, of another epoch perhaps, are not believed."""
    outbox.append(make_record("events", 1))
    outbox.seal()
    outbox.acknowledge([1, 2, 99])
    assert deliver(outbox).numbers() == [1]


def test_batches_are_bounded(outbox: Outbox) -> None:
    """However much waits, no batch is more than the coordinator takes."""
    for number in range(60):
        outbox.append(make_record("events", number, padding=8_000))
    fill(outbox, "resources", range(100, 1700))
    sealed = []
    while count := outbox.seal():
        sealed.append(count)
    assert sum(sealed) == 1660
    for batch in outbox.unacknowledged(ALL):
        assert len(batch.payload) < MAX_PAYLOAD_BYTES
        assert len(decode_batch(batch.payload)) <= 1000


def test_number_that_is_none_is_refused_at_once(outbox: Outbox) -> None:
    """What no coordinator takes is an error of the caller, not a batch that blocks the queue."""
    with pytest.raises(WireError, match="offline_s"):
        outbox.append(TelemetryRecord(at=NOW, body=CounterIncrements(increments={"offline_s": float("nan")})))
    assert outbox.size().records == 0


class TestBound:
    """The bound in bytes."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_oldest_of_a_kind_goes_first(self, open_outbox: Callable[..., Outbox], kind: Kind) -> None:
        """Within a kind the newest stay, and the count of the others is reported."""
        outbox = open_outbox(max_bytes=10 * (cost(kind) + 2))
        fill(outbox, kind, range(1, 101))
        assert outbox.size().bytes <= 10 * (cost(kind) + 2)
        tables = deliver(outbox)
        assert tables.numbers() == list(range(101 - len(tables.numbers()), 101))
        assert len(tables.numbers()) >= 9
        assert tables.dropped() == {kind: 100 - len(tables.numbers())}

    @pytest.mark.parametrize(("less", "more"), [(a, b) for i, a in enumerate(KINDS) for b in KINDS[i + 1 :]])
    def test_less_important_goes_before_more_important(
        self, open_outbox: Callable[..., Outbox], less: Kind, more: Kind
    ) -> None:
        """Newer records of a more important kind push out all of a less important one before their own."""
        outbox = open_outbox(max_bytes=20 * (max(cost(less), cost(more)) + 2))
        fill(outbox, less, range(1, 11))
        fill(outbox, more, range(101, 121))
        tables = deliver(outbox)
        assert set(range(101, 121)) <= set(tables.numbers())
        assert tables.dropped() == {less: 10 - len([number for number in tables.numbers() if number < 100])}

    def test_less_important_newcomer_is_dropped(self, open_outbox: Callable[..., Outbox]) -> None:
        """A full outbox of events takes no sample, and says so."""
        outbox = open_outbox(max_bytes=10 * (cost("events") + 2))
        fill(outbox, "events", range(11))
        outbox.append(make_record("resources", 1000))
        tables = deliver(outbox)
        assert 1000 not in tables.numbers()
        assert tables.dropped()["resources"] == 1

    def test_sealed_batch_goes_when_nothing_else_is_left(self, open_outbox: Callable[..., Outbox]) -> None:
        """A batch that was never offered makes room, and each record in it is counted."""
        outbox = open_outbox(max_bytes=2000)
        fill(outbox, "events", range(7))
        outbox.append(make_record("predictions", 100))
        outbox.seal()
        outbox.append(make_record("events", 200, padding=1850))
        tables = deliver(outbox)
        assert tables.numbers() == [200]
        assert tables.dropped() == {"events": 7, "predictions": 1}

    def test_offered_batch_is_never_dropped(self, open_outbox: Callable[..., Outbox]) -> None:
        """The coordinator may have it; to count it as lost as well would be a lie."""
        outbox = open_outbox(max_bytes=2000)
        fill(outbox, "events", range(7))
        outbox.seal()
        tables = CoordinatorTables()
        tables.store(outbox.unacknowledged(ALL))
        outbox.append(make_record("events", 200, padding=1900))
        assert tables.store(outbox.unacknowledged(ALL)) == [1]
        outbox.acknowledge([1])
        assert deliver(outbox).dropped() == {"events": 1}
        assert tables.numbers() == list(range(7))

    def test_counts_alone_do_not_fill_it(self, open_outbox: Callable[..., Outbox]) -> None:
        """A link that takes batches and never answers costs no more than the bound, however long it goes on."""
        outbox = open_outbox(max_bytes=600)
        for number in range(50):
            outbox.append(make_record("events", number))
            outbox.seal()
            outbox.unacknowledged(ALL)
        assert outbox.size().bytes <= 600 + 256
        tables = deliver(outbox)
        assert len(tables.numbers()) + tables.dropped()["events"] == 50

    def test_report_of_drops_survives_the_drop_of_its_batch(self, open_outbox: Callable[..., Outbox]) -> None:
        """A count that was sealed and then dropped is counted again, not lost and not doubled."""
        outbox = open_outbox(max_bytes=1200)
        fill(outbox, "resources", range(40))
        before = outbox.size().records
        while outbox.seal():
            pass
        outbox.append(make_record("events", 100, padding=1000))
        tables = deliver(outbox)
        assert tables.numbers() == [100]
        assert before < 40
        assert tables.dropped() == {"resources": 40}

    def test_record_beyond_reason_is_dropped(self, outbox: Outbox) -> None:
        """One record can't push out all others."""
        outbox.append(make_record("events", 1, padding=MAX_RECORD_BYTES))
        outbox.append(make_record("events", 2))
        tables = deliver(outbox)
        assert tables.numbers() == [2]
        assert tables.dropped() == {"events": 1}

    def test_bound_is_remembered(self, open_outbox: Callable[..., Outbox]) -> None:
        """A process that does not know the configuration keeps to the bound that the daemon set."""
        open_outbox(max_bytes=1000).append(make_record("events", 0))
        unknowing = open_outbox()
        fill(unknowing, "events", range(1, 50))
        assert unknowing.size().bytes <= 1000

    def test_room_is_given_back(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """After a long time without a network the file shrinks again."""
        outbox = open_outbox()
        for number in range(200):
            outbox.append(make_record("events", number, padding=4000))
        outbox.close()
        large = path.stat().st_size
        deliver(outbox)
        outbox.close()
        assert path.stat().st_size < large / 4


class TestSeveralProcesses:
    """Several outboxes on one file, as several processes have them."""

    def test_all_append_and_one_delivers(self, open_outbox: Callable[..., Outbox]) -> None:
        """Whoever appends, whoever seals: each record arrives once."""
        first, second = open_outbox(), open_outbox()
        for number in range(0, 20, 2):
            first.append(make_record("events", number))
            second.append(make_record("events", number + 1))
        assert first.size() == second.size()
        assert sorted(deliver(second).numbers()) == list(range(20))

    def test_follows_when_the_file_is_another(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """A file that another process has put aside is left behind, not written to."""
        outbox = open_outbox()
        outbox.append(make_record("events", 1))
        for file in path.parent.iterdir():
            file.rename(file.with_name(f"moved-{file.name}"))
        outbox.append(make_record("events", 2))
        assert deliver(open_outbox()).numbers() == [2]


class TestUnusableDisk:
    """The state of the disk stops nothing."""

    def test_locked_database_makes_records_wait_in_memory(
        self, outbox: Outbox, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are written as soon as the lock is gone, in their order."""
        monkeypatch.setattr("edgeward_agent.telemetry.store._BUSY_S", 0.01)
        outbox.append(make_record("events", 0))
        outbox.close()
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        fill(outbox, "events", range(1, 4))
        assert "locked" in outbox.problem
        assert outbox.size().records == 3
        assert outbox.seal() == 0
        blocker.execute("ROLLBACK")
        blocker.close()
        assert deliver(outbox).numbers() == [0, 1, 2, 3]
        assert outbox.problem == ""

    def test_missing_folder_is_a_problem_in_words(self, tmp_path: Path) -> None:
        """Nothing is raised; what waits in memory is bounded, and what was given up is counted once it can be."""
        outbox = Outbox(tmp_path / "state" / "outbox.db")
        fill(outbox, "resources", range(MAX_WAITING + 10))
        assert "outbox.db" in outbox.problem
        assert outbox.unacknowledged(ALL) == []
        (tmp_path / "state").mkdir()
        tables = deliver(outbox)
        outbox.close()
        assert tables.numbers() == list(range(10, MAX_WAITING + 10))
        assert tables.dropped() == {"resources": 10}

    def test_full_disk_makes_records_wait_in_memory(self, open_outbox: Callable[..., Outbox]) -> None:
        """SQLite's own page limit stands for a full disk: the same error, from the same place."""
        outbox = open_outbox()
        outbox.append(make_record("events", 0))
        (pages,) = connection_of(outbox).execute("PRAGMA page_count").fetchone()
        connection_of(outbox).execute(f"PRAGMA max_page_count = {pages}").fetchall()
        outbox.append(make_record("events", 1, padding=8_000))
        assert "full" in outbox.problem
        assert outbox.size().records == 2
        assert outbox.problem
        connection_of(outbox).execute("PRAGMA max_page_count = 1000000").fetchall()
        assert deliver(outbox).numbers() == [0, 1]
        assert outbox.problem == ""


class TestDamage:
    """A damaged file costs what it held and never the boot."""

    @pytest.fixture(params=["garbage", "truncated", "foreign", "future", "damaged-page", "no-totals"])
    def damage(self, request: pytest.FixtureRequest) -> Callable[[Path], None]:
        """Ways in which a file can be none of ours."""

        def apply(path: Path) -> None:
            content = path.read_bytes()
            match request.param:
                case "garbage":
                    path.write_bytes(b"\xff" * len(content))
                case "truncated":
                    path.write_bytes(content[: len(content) // 2])
                case "damaged-page":
                    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
                case statement:
                    if statement == "foreign":
                        path.unlink()
                    connection = sqlite3.connect(path)
                    connection.execute(
                        {
                            "foreign": "CREATE TABLE record (other TEXT)",
                            "future": "PRAGMA user_version = 99",
                            "no-totals": "DELETE FROM held",
                        }[statement]
                    )
                    connection.commit()
                    connection.close()

        return apply

    def test_is_put_aside(self, open_outbox: Callable[..., Outbox], path: Path, damage: Callable[[Path], None]) -> None:
        """A fresh outbox of another epoch begins with an event that says so."""
        before = open_outbox()
        fill(before, "events", range(5))
        before.seal()
        (batch,) = before.unacknowledged(ALL)
        before.close()
        damage(path)
        after = open_outbox()
        after.append(make_record("events", 6))
        assert after.problem == ""
        after.seal()
        (fresh,) = after.unacknowledged(ALL)
        reset, appended = decode_batch(fresh.payload)
        assert isinstance(reset.body, DeviceEvent)
        assert (reset.body.kind, reset.body.detail["kept_as"]) == ("outbox_reset", "outbox.corrupt-1")
        assert appended == make_record("events", 6)
        assert fresh.epoch != batch.epoch
        assert (path.parent / "outbox.corrupt-1").exists()

    def test_of_the_open_file_is_survived(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """Each process that has it open goes over to the fresh one, and it is put aside once."""
        first, second = open_outbox(), open_outbox()
        fill(first, "events", range(300))
        fill(second, "events", range(3))
        for outbox in (first, second):
            connection_of(outbox).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        path.write_bytes(b"\xff" * path.stat().st_size)
        first.append(make_record("events", 10))
        second.append(make_record("events", 11))
        assert set(deliver(first).numbers()) == {10, 11}
        assert [item.name for item in path.parent.glob("*corrupt*")] == ["outbox.corrupt-1"]

    def test_only_the_last_is_kept(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """Damage again and again does not fill the disk."""
        for _ in range(3):
            path.write_bytes(b"garbage" * 100)
            outbox = open_outbox()
            outbox.append(make_record("events", 1))
            outbox.close()
        assert [item.name for item in path.parent.glob("*corrupt*")] == ["outbox.corrupt-3"]

    def test_journal_without_its_database_is_removed(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """A crash while putting aside leaves a journal, which must not be replayed into the fresh file."""
        outbox = open_outbox()
        fill(outbox, "events", range(5))
        wal = path.with_name("outbox.db-wal").read_bytes()
        assert wal
        outbox.close()
        path.unlink()
        path.with_name("outbox.db-wal").write_bytes(wal)
        assert deliver(open_outbox()).numbers() == []


class TestStatements:
    """What is said to SQLite."""

    def traced(self, outbox: Outbox, use: Callable[[], object]) -> list[str]:
        """The statements of a use of an open outbox."""
        statements: list[str] = []
        connection_of(outbox).set_trace_callback(statements.append)
        use()
        connection_of(outbox).set_trace_callback(None)
        return statements

    def test_opening_reads_no_row_that_waits(
        self, open_outbox: Callable[..., Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Start-up does not depend on how much waits: no statement of it walks a table of records or batches."""
        before = open_outbox()
        fill(before, "events", range(50))
        before.seal()
        before.close()
        statements: list[str] = []
        connect = sqlite3.connect

        def connect_traced(*args: object, **kwargs: object) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
            connection.set_trace_callback(statements.append)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_traced)
        after = open_outbox()
        assert after.size().records == 50
        after.append(make_record("events", 51))
        monkeypatch.undo()
        assert len(statements) < 40
        explained = self.plans(path, statements)
        assert any("meta" in plan for plan in explained)
        assert not [plan for plan in explained if plan.startswith(("SCAN record", "SCAN batch"))]

    def test_full_outbox_finds_what_to_drop_by_its_index(self, open_outbox: Callable[..., Outbox], path: Path) -> None:
        """An append to a full outbox reads what it drops, not all that waits."""
        outbox = open_outbox(max_bytes=5000)
        fill(outbox, "events", range(100))
        statements = self.traced(outbox, lambda: outbox.append(make_record("events", 101)))
        assert any(statement.startswith("DELETE FROM record") for statement in statements)
        plans = self.plans(path, statements)
        scans = [plan for plan in plans if plan.startswith("SCAN record")]
        assert scans == ["SCAN record USING INDEX record_by_importance"]
        assert not [plan for plan in plans if "TEMP B-TREE" in plan]

    def test_sealing_and_offering_are_durable(self, outbox: Outbox) -> None:
        """A batch that may be sent can't be forgotten by a power cut: its transaction is synced, appends' are not."""
        outbox.append(make_record("events", 1))
        for use in (outbox.seal, lambda: outbox.unacknowledged(ALL)):
            statements = self.traced(outbox, use)
            full, begin, commit = (
                statements.index(text) for text in ("PRAGMA synchronous = FULL", "BEGIN IMMEDIATE", "COMMIT")
            )
            assert full < begin < commit < statements.index("PRAGMA synchronous = NORMAL")
            assert statements.count("COMMIT") == 1
        statements = self.traced(outbox, lambda: outbox.append(make_record("events", 1)))
        assert "PRAGMA synchronous = FULL" not in statements
        assert statements.count("COMMIT") == 1

    def plans(self, path: Path, statements: list[str]) -> list[str]:
        """How SQLite runs them."""
        connection = sqlite3.connect(path)
        plans: list[str] = []
        for statement in statements:
            if statement.startswith(("SELECT", "INSERT", "DELETE", "UPDATE")):
                plans += [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        connection.close()
        return plans


def test_failure_inside_a_seal_leaves_everything_as_it_was(
    open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing is one transaction: an error in its middle neither loses nor doubles."""
    outbox = open_outbox(max_bytes=1000)
    fill(outbox, "events", range(30))
    before = outbox.size()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeward_agent.telemetry.store.json.dumps", _fail)
        assert outbox.seal() == 0
    assert outbox.size() == before
    tables = deliver(outbox)
    assert len(tables.numbers()) + tables.dropped()["events"] == 30


def _fail(_value: object) -> str:
    raise sqlite3.OperationalError("disk I/O error")


def test_ages_are_kept(outbox: Outbox) -> None:
    """A record says when it was, however late it arrives."""
    record = TelemetryRecord(at=NOW - timedelta(days=90), body=DeviceEvent(kind="activated", detail={}))
    outbox.append(record)
    assert deliver(outbox).records() == [record]
