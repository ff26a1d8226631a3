"""`FleetGrid`: Flower's Grid over a fleet whose devices come and go, durable by replay.

Every message, reply and population is in the run's journal before it matters.
When the process dies, the app is run again from its start with the same seed: as
long as it asks what the journal says it asked, it is answered from the journal,
in the same order, and no device hears of it; an open call waits for the replies
that are missing; then the run goes on. An app whose requests depend on nothing
but its replies, its seed and what `get_node_ids` said therefore comes to the same
bits. One whose requests depend on time (or threads) may ask something else on
replay: from there on the journal is set aside and the run goes on with new calls.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from edgeward_coordinator.aggregation.serverapp_replies import ReplyRejected, find_misfits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flwr.app import RecordDict

    from edgeward_coordinator.aggregation.journal import AppendLog
    from edgeward_coordinator.aggregation.serverapp_calls import Call, Calls
    from edgeward_coordinator.aggregation.serverapp_population import PopulationSource
    from edgeward_coordinator.aggregation.serverapp_strategies import Expectations

logger = logging.getLogger("edgeward")


class FleetGrid(Grid):
    """The grid that an app's ServerApp is given.

    Args:
        run: The run's number.
        calls: The run's calls.
        population: Who is online.
        pulls: Which replies each `pull_messages` returned.
        expectations: What the strategy that runs now needs of replies.
    """

    def __init__(
        self,
        *,
        run: int,
        calls: Calls,
        population: PopulationSource,
        pulls: AppendLog,
        expectations: Callable[[], Expectations],
    ) -> None:
        self._run = Run.create_empty(run)
        self._calls = calls
        self._population = population
        self._pulls = pulls
        self._expectations = expectations
        self._lock = threading.Lock()
        self._unpulled: dict[str, tuple[Call, str]] = {}
        self._recorded_pulls: deque[list[str]] = deque(pulls.read())

    def set_run(self, run: Run) -> None:
        """Flower's; the run is known already."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return Run(**vars(self._run))

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's deprecated way to make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """The nodes of the devices of the group that are online."""
        devices = self._population.answer(self._calls.recorded_answers())
        return [int(device, 16) for device in devices]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Ask devices and wait for their replies.

        Returns:
            In the order of the messages; fewer where devices stayed silent until the deadline,
            or answered what can't be used.
        """
        calls = self._send(messages, timeout)
        replies: list[Message] = []
        for call in calls:
            if call.closed is None:
                self._calls.wait(call)
            replies += self._calls.close(call).values()
        return replies

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Ask devices; `pull_messages` fetches what they reply."""
        messages = list(messages)
        calls = self._send(messages, max((message.metadata.ttl for message in messages), default=None))
        with self._lock:
            sent = {
                message.metadata.message_id: (call, node) for call in calls for node, message in call.messages.items()
            }
            self._unpulled |= sent
        return list(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have come since the last time; errors for devices silent past the deadline.

        On replay the same replies come in the same groups; only how often nothing came in between is forgotten.
        """
        with self._lock:
            wanted = [identity for identity in message_ids if identity in self._unpulled]
            group = self._recorded_group(wanted)
            if group is None:
                group = [identity for identity in wanted if self._is_ready(*self._unpulled[identity])]
                if group:
                    self._pulls.append(group)
            pulled = [self._unpulled.pop(identity) for identity in group]
            replies = [self._reply_or_error(call, device) for call, device in pulled]
            self._close_emptied([call for call, _ in pulled])
        return replies

    def _send(self, messages: Iterable[Message], timeout: float | None) -> list[Call]:
        messages = list(messages)
        known = [message for message in messages if f"{message.metadata.dst_node_id:016x}" in self._population.known]
        if len(known) < len(messages):
            logger.warning("%d messages to unknown nodes were not sent", len(messages) - len(known))
        timeout_s = float("inf") if timeout is None else timeout
        calls = []
        for batch in _one_per_node(known):
            answers = self._population.take_answers()
            calls.append(self._calls.send(batch, answers=answers, timeout_s=timeout_s, needs=self._expectations()))
        return calls

    def _recorded_group(self, wanted: Sequence[str]) -> list[str] | None:
        if not self._recorded_pulls:
            return None
        group = [identity for identity in self._recorded_pulls[0] if identity in wanted]
        rest = [identity for identity in self._recorded_pulls[0] if identity not in wanted]
        if not group and self._calls.recorded_answers() is None:
            self._recorded_pulls.clear()  # all was asked again that ever was, and yet this is not what was asked for
            return None
        self._recorded_pulls[0] = rest
        if not rest:
            self._recorded_pulls.popleft()
        return group

    def _is_ready(self, call: Call, device: str) -> bool:
        return call.closed is not None or device in self._calls.replied(call) or self._calls.is_overdue(call)

    def _reply_or_error(self, call: Call, device: str) -> Message:
        asked = call.messages[device]
        if device not in self._calls.replied(call):
            return Message(Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "no reply by the deadline"), reply_to=asked)
        try:
            reply = self._calls.read_reply(call, device)
        except ReplyRejected as error:
            return Message(Error(ErrorCode.UNKNOWN, f"the reply was dropped: {error}"), reply_to=asked)
        misfits = find_misfits({device: reply}, {device: asked.content}, call.needs)
        if misfits:
            return Message(Error(ErrorCode.UNKNOWN, f"the reply was dropped: {misfits[device]}"), reply_to=asked)
        return reply

    def _close_emptied(self, calls: Sequence[Call]) -> None:
        outstanding = {call.folder.call for call, _ in self._unpulled.values()}
        for number, call in {call.folder.call: call for call in calls}.items():
            if number not in outstanding:
                self._calls.close(call)


def _one_per_node(messages: Sequence[Message]) -> list[list[Message]]:
    """A call holds one message for each device: second messages go into a call of their own."""
    batches: list[list[Message]] = []
    counts: dict[int, int] = {}
    for message in messages:
        place = counts.get(message.metadata.dst_node_id, 0)
        counts[message.metadata.dst_node_id] = place + 1
        if place == len(batches):
            batches.append([])
        batches[place].append(message)
    return batches
