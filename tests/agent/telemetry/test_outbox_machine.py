"""The outbox against a coordinator that may lose every answer: each record arrives once or is counted as dropped."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeward_agent.telemetry import KINDS, Outbox, kind_of
from edgeward_agent.telemetry.schema import ROW_BYTES
from edgeward_agent.telemetry.store import SEAL_BYTES
from tests.agent.telemetry.records import NOW, CoordinatorTables, make_record, number_of

if TYPE_CHECKING:
    from edgeward_agent.telemetry import Kind

# A batch may hold one record more than what there was room for: the report of what was dropped.
_REPORT_BYTES = 300


class OutboxMachine(RuleBasedStateMachine):
    """Two processes with one outbox, a link that fails, a coordinator that keeps each (epoch, sequence) once."""

    @initialize(max_bytes=st.integers(400, 2000))
    def open(self, max_bytes: int) -> None:
        """Both processes start."""
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.max_bytes = max_bytes
        self.outboxes = [self.opened(), self.opened()]
        self.coordinator = CoordinatorTables()
        self.appended: dict[int, Kind] = {}
        self.unanswered: list[int] = []

    def opened(self) -> Outbox:
        """One process's outbox."""
        return Outbox(self.folder / "outbox.db", max_bytes=self.max_bytes, clock=lambda: NOW)

    @rule(process=st.integers(0, 1), kind=st.sampled_from(KINDS), padding=st.sampled_from([0, 100, 300, 1000]))
    def append(self, process: int, kind: Kind, padding: int) -> None:
        """A record, or many of a kind in the course of time."""
        number = len(self.appended) + 1
        self.appended[number] = kind
        self.outboxes[process].append(make_record(kind, number, padding=padding))

    @rule(process=st.integers(0, 1))
    def seal(self, process: int) -> None:
        """The daemon makes a batch."""
        self.outboxes[process].seal()

    @rule(process=st.integers(0, 1), limit_bytes=st.sampled_from([1, 300, 4000]), answered=st.booleans())
    def send(self, process: int, limit_bytes: int, answered: bool) -> None:  # noqa: FBT001 - drawn
        """Batches reach the coordinator, whose answer may be lost."""
        committed = self.coordinator.store(self.outboxes[process].unacknowledged(limit_bytes))
        if answered:
            self.outboxes[process].acknowledge(committed)
        else:
            self.unanswered += committed

    @rule(process=st.integers(0, 1))
    def send_into_the_void(self, process: int) -> None:
        """Batches are sent and never arrive."""
        self.outboxes[process].unacknowledged(1000)

    @precondition(lambda self: self.unanswered)
    @rule(process=st.integers(0, 1))
    def late_answer(self, process: int) -> None:
        """The coordinator's answers name what earlier calls committed too."""
        self.outboxes[process].acknowledge(self.unanswered)
        self.unanswered = []

    @rule(process=st.integers(0, 1))
    def kill(self, process: int) -> None:
        """A process dies without closing, and comes back."""
        self.outboxes[process]._store = None
        self.outboxes[process] = self.opened()

    @rule(process=st.integers(0, 1))
    def restart(self, process: int) -> None:
        """A process ends in order, and comes back."""
        self.outboxes[process].close()
        self.outboxes[process] = self.opened()

    @invariant()
    def is_bounded(self) -> None:
        """The disk takes no more than was allowed, but for the report of what was dropped."""
        size = self.outboxes[0].size().bytes
        assert size <= self.max_bytes + ROW_BYTES + _REPORT_BYTES
        assert size < SEAL_BYTES

    @invariant()
    def nothing_arrived_twice(self) -> None:
        """No record is in two batches."""
        numbers = self.coordinator.numbers()
        assert len(numbers) == len(set(numbers))

    def teardown(self) -> None:
        """In the end all is delivered, and what is missing is exactly what was said to be dropped."""
        if not hasattr(self, "outboxes"):
            return
        outbox = self.outboxes[0]
        while outbox.seal() or outbox.unacknowledged(1 << 20):
            outbox.acknowledge(self.coordinator.store(outbox.unacknowledged(1 << 20)))
        assert (outbox.size().records, outbox.size().bytes) == (0, 0)
        self.nothing_arrived_twice()
        delivered = [record for record in self.coordinator.records() if number_of(record) is not None]
        arrived = Counter(kind_of(record.body) for record in delivered)
        assert arrived + self.coordinator.dropped() == Counter(self.appended.values())
        for opened in self.outboxes:
            opened.close()
        shutil.rmtree(self.folder)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
