"""The shadow: a candidate answers what was answered, in a thread of its own, and only how it compares is kept.

The queue is short, and what finds it full is counted as skipped: a device that
has no time to spare loses comparisons and never an answer's time. Inputs and
outputs are copied, since they are the caller's the moment that it has its answer.
The candidate is loaded in this process: it has passed its golden set in a child
process, and a candidate that kills processes all the same is dropped by the agent
after the second (`edgeward_agent.telemetry.trials`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from edgeward.protocol.golden import TOLERANCES
from edgeward_agent.serving.agreement import agreeing_rows
from edgeward_agent.telemetry import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.tensors import Array
    from edgeward_agent.serving.served import Served
    from edgeward_agent.telemetry import Recorder

_LOG = logging.getLogger(__name__)

QUEUE_LENGTH = 8

# Of processor time the shadow takes what the others leave.
_NICENESS = 10


@dataclass(frozen=True, slots=True)
class _Question:
    pair: Pair
    candidate: Served
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    rows: int


class Shadow:
    """Of one process, for all its models; the thread starts with the first question.

    Args:
        recorder: Where comparisons are counted.
        length: Of the queue.
    """

    def __init__(self, recorder: Recorder, *, length: int = QUEUE_LENGTH) -> None:
        self._recorder = recorder
        self._queue: Queue[_Question | None] = Queue(length)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def ask(
        self,
        served: Served,
        candidate: Served,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        rows: int,
    ) -> None:
        """Compare them soon, or skip it; returns at once."""
        pair = _pair(served, candidate)
        if self._is_closed or self._queue.full():
            self._recorder.count_skipped(pair)
            return
        question = _Question(pair, candidate, _copies(inputs), _copies(outputs), rows)
        try:
            self._queue.put_nowait(question)
        except Full:
            self._recorder.count_skipped(pair)
            return
        if self._thread is None:
            self._start()

    def close(self, within_s: float) -> None:
        """End with the question that is being answered, but wait no longer than that; the others are skipped."""
        with self._starting:
            self._is_closed = True
            thread, self._thread = self._thread, None
        self._skip_all()
        if thread is not None:
            self._queue.put(None)
            thread.join(within_s)
        self._skip_all()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="edgeward shadow", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        except OSError as error:
            _LOG.debug("the shadow has the priority of the others: %s", error)
        while (question := self._queue.get()) is not None:
            if not question.candidate.enter():
                continue  # it was dropped meanwhile
            try:
                self._compare(question)
            finally:
                question.candidate.leave()

    def _compare(self, question: _Question) -> None:
        started = time.perf_counter()
        failed = True
        agreed = 0
        try:
            outputs = question.candidate.predict(question.inputs)
            seconds = time.perf_counter() - started
            tolerance = TOLERANCES[question.candidate.active.precision]
            agreed = agreeing_rows(question.outputs, outputs, rows=question.rows, tolerance=tolerance)
            failed = False
        except Exception as error:  # noqa: BLE001 - the outermost frame: whatever a candidate does is its own error
            seconds = time.perf_counter() - started
            _LOG.debug("the candidate %s failed: %s", question.candidate.title, error)
        self._recorder.count_comparison(
            question.pair, rows=question.rows, agreed=agreed, seconds=seconds, failed=failed
        )
        question.candidate.count(rows=question.rows, failed=failed)

    def _skip_all(self) -> None:
        while True:
            try:
                question = self._queue.get_nowait()
            except Empty:
                return
            if question is not None:
                self._recorder.count_skipped(question.pair)


def _pair(served: Served, candidate: Served) -> Pair:
    return Pair(
        model=served.active.model,
        version=served.active.version,
        candidate_version=candidate.active.version,
        candidate_flavor=candidate.active.flavor,
    )


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}
