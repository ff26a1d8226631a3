"""The calls of a run: opened, waited for and closed against the journal.

A call is one message to each of some devices. What the app asks is first looked
for in the journal (`_recall`); only what is not there is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward.protocol.digests import digest_of
from edgeward_coordinator.aggregation.control import CallClosed, CallOpened
from edgeward_coordinator.aggregation.journal import ClosedCall, SentCall, SentMessage, Why
from edgeward_coordinator.aggregation.records import RoundRecord
from edgeward_coordinator.aggregation.serverapp_messages import BroadcastEncoder, round_number
from edgeward_coordinator.aggregation.serverapp_replies import (
    ReplyRejected,
    decode_reply,
    find_misfits,
    weighted_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flwr.app import Message

    from edgeward_coordinator.aggregation.journal import CallFolder, RunFolder
    from edgeward_coordinator.aggregation.records import RunSpec
    from edgeward_coordinator.aggregation.serverapp_channel import Channel
    from edgeward_coordinator.aggregation.serverapp_population import Answers
    from edgeward_coordinator.aggregation.serverapp_strategies import Expectations

RESUME_GRACE_S = 60.0
"""An open call that outlived its process gets at least so long again: the devices must find their way back first."""

logger = logging.getLogger("edgeward")


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of this process's life; `messages` by device, in the app's order."""

    folder: CallFolder
    sent: SentCall
    messages: Mapping[str, Message]
    needs: Expectations
    closed: ClosedCall | None


class Calls:
    """All calls of a run, those of former processes first.

    Args:
        folder: The run's.
        spec: The run's.
        channel: To the server.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, folder: RunFolder, spec: RunSpec, channel: Channel, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._channel = channel
        self._clock = clock
        self._lock = threading.Lock()
        self._phases: Counter[str] = Counter()
        self._journal: deque[tuple[CallFolder, SentCall]] = deque()
        self._next = 1
        self._read_journal()

    def recorded_answers(self) -> Sequence[tuple[int, Sequence[str]]] | None:
        """What `get_node_ids` answered before the journal's next call; None past the journal's end."""
        with self._lock:
            return self._journal[0][1].populations if self._journal else None

    def send(self, messages: Sequence[Message], *, answers: Answers, timeout_s: float, needs: Expectations) -> Call:
        """Ask: from the journal if it was asked before, else for real.

        Args:
            messages: At most one for each device.
            answers: What `get_node_ids` said since the last call.
            timeout_s: The app's own; the run's round timeout also holds.
            needs: Of the strategy that waits.
        """
        by_device = {f"{message.metadata.dst_node_id:016x}": message for message in messages}
        with self._lock:
            recalled = self._recall({device: message.metadata.message_type for device, message in by_device.items()})
            folder = recalled[0] if recalled else self._folder.call(self._next)
            for device, message in by_device.items():
                # Flower has no setter for it: its own grids do the same.
                message.metadata.__dict__["_message_id"] = message_id(self._spec.run_id, folder.call, device)
            if recalled:
                sent = self._resume(*recalled)
            else:
                self._next += 1
                sent = self._open(folder, by_device, answers, min(timeout_s, self._spec.round_timeout_s))
            self._phases[sent.phase] += 1
        return Call(folder=folder, sent=sent, messages=by_device, needs=needs, closed=folder.read_closed())

    def replied(self, call: Call) -> set[str]:
        """The devices whose replies are durable."""
        return set(call.folder.replied()) & set(call.messages)

    def is_overdue(self, call: Call) -> bool:
        """Whether its deadline has passed."""
        return self._clock() >= call.sent.deadline

    def wait(self, call: Call) -> None:
        """Until all have replied or the deadline has passed."""
        present = self.replied(call)

        def all_replied() -> bool:
            return call.messages.keys() <= present | self._channel.replied(call.folder.call)

        while not all_replied() and not self.is_overdue(call):
            self._channel.wait(all_replied, within_s=max(0.0, call.sent.deadline - self._clock()))

    def read_reply(self, call: Call, device: str) -> Message:
        """The reply of one device.

        Raises:
            ReplyRejected: It can't be used.
        """
        data = call.folder.reply_path(device).read_bytes()
        identity = message_id(self._spec.run_id, call.folder.call, device)
        reply = decode_reply(data, run=self._spec.number, message_id=identity, node=int(device, 16))
        reply.metadata.__dict__["_message_id"] = f"{identity}-reply"
        return reply

    def close(self, call: Call) -> dict[str, Message]:
        """Decide which replies count, for ever.

        Returns:
            Those, in the order of the messages.
        """
        if call.closed is not None:
            return {device: self.read_reply(call, device) for device in call.closed.replies}
        replied = self.replied(call)
        replies, dropped = self._read_replies(call, replied)
        misfits = find_misfits(replies, {device: m.content for device, m in call.messages.items()}, call.needs)
        replies = {device: reply for device, reply in replies.items() if device not in misfits}
        dropped |= misfits
        for device, reason in dropped.items():
            logger.warning("the reply of device %s was dropped: %s", device, reason)
        why = Why.ANSWERED if len(replied) == len(call.messages) else Why.DEADLINE
        call.closed = ClosedCall(
            why=why, replies=tuple(replies), dropped=dropped, round=self._round(call, replies, dropped, replied)
        )
        call.folder.close(call.closed)
        self._channel.tell(CallClosed(call=call.folder.call))
        return replies

    def _read_journal(self) -> None:
        for folder in self._folder.calls():
            self._next = folder.call + 1
            sent, closed = folder.read_sent(), folder.read_closed()
            if sent is None:
                self._next = folder.call  # begun and never open: nobody has seen it
            elif closed is None or closed.why is not Why.ABANDONED:
                self._journal.append((folder, sent))

    def _recall(self, asked: Mapping[str, str]) -> tuple[CallFolder, SentCall] | None:
        # Threads of an app (the legacy strategies use them) come in any order; the main thread has one.
        in_order = threading.current_thread() is threading.main_thread()
        for position, (_, sent) in enumerate(self._journal):
            if list(asked.items()) == [(device, message.type) for device, message in sent.messages.items()]:
                found = self._journal[position]
                del self._journal[position]
                return found
            if in_order:
                break
        if self._journal:
            self._set_aside()
        return None

    def _set_aside(self) -> None:
        logger.warning("the app asks something else than before the restart: going on from here with new calls")
        for folder, sent in self._journal:
            nothing = _summary(sent, answered=0, failed=0, metrics={}, took_s=0.0, bytes_up=0)
            folder.close(ClosedCall(why=Why.ABANDONED, replies=(), dropped={}, round=nothing))
            self._channel.tell(CallClosed(call=folder.call))
        self._journal.clear()

    def _open(
        self, folder: CallFolder, messages: Mapping[str, Message], answers: Answers, timeout_s: float
    ) -> SentCall:
        folder.begin()
        encoder, entries = BroadcastEncoder(), {}
        for device, message in messages.items():
            data = encoder.encode(message)
            folder.write_message(device, data)
            entries[device] = SentMessage(
                digest=digest_of(data), total_bytes=len(data), type=message.metadata.message_type
            )
        phase = next(iter(entries.values())).type
        number = round_number(list(messages.values()), calls_of_phase=self._phases[phase])
        now = self._clock()
        sent = SentCall(
            call=folder.call,
            phase=phase,
            number=number,
            sent_at=now,
            deadline=now + timeout_s,
            messages=entries,
            populations=answers,
        )
        folder.open(sent)
        self._channel.tell(CallOpened(call=folder.call))
        return sent

    def _resume(self, folder: CallFolder, sent: SentCall) -> SentCall:
        if folder.is_closed:
            self._channel.tell(CallClosed(call=folder.call))
            return sent
        sent = replace(sent, deadline=max(sent.deadline, self._clock() + RESUME_GRACE_S))
        folder.open(sent)
        self._channel.tell(CallOpened(call=folder.call))
        return sent

    def _read_replies(self, call: Call, replied: set[str]) -> tuple[dict[str, Message], dict[str, str]]:
        replies, dropped = {}, {}
        for device in call.messages:
            if device in replied:
                try:
                    replies[device] = self.read_reply(call, device)
                except ReplyRejected as error:
                    dropped[device] = str(error)
        return replies, dropped

    def _round(
        self, call: Call, replies: Mapping[str, Message], dropped: Mapping[str, str], replied: set[str]
    ) -> RoundRecord:
        errors = sum(reply.has_error() for reply in replies.values())
        return _summary(
            call.sent,
            answered=len(replies) - errors,
            failed=errors + len(dropped),
            metrics=weighted_metrics(replies, call.needs.weight_key),
            took_s=max(0.0, self._clock() - call.sent.sent_at),
            bytes_up=sum(call.folder.reply_path(device).stat().st_size for device in replied),
        )


def message_id(run_id: str, call: int, device: str) -> str:
    """The same on every replay; also a safe file name."""
    return f"{run_id}-{call}-{device}"


def _summary(
    sent: SentCall, *, answered: int, failed: int, metrics: Mapping[str, float], took_s: float, bytes_up: int
) -> RoundRecord:
    return RoundRecord(
        call=sent.call,
        number=sent.number,
        phase=sent.phase,
        asked=len(sent.messages),
        answered=answered,
        failed=failed,
        metrics=metrics,
        took_s=took_s,
        bytes_up=bytes_up,
        bytes_down=sum(message.total_bytes for message in sent.messages.values()),
    )
