"""The devices' side of the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.digests import digest_of
from edgeward_coordinator.aggregation.journal import CallFolder, ClosedCall, RunFolder, SentCall, SentMessage, Why
from edgeward_coordinator.aggregation.mailbox import Mailbox
from edgeward_coordinator.aggregation.records import RoundRecord, RunSpec
from edgeward_coordinator.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

RUN, DEVICE, OTHER = "00000000000000ab", "00000000000000cd", "00000000000000ef"
MESSAGE_ID = f"{RUN}-1-{DEVICE}"
REPLY = b"reply" * 1000
DIGEST = digest_of(REPLY)


@pytest.fixture
def call(tmp_path: Path) -> CallFolder:
    """An open call that asks two devices."""
    folder = RunFolder(tmp_path / RUN)
    folder.path.mkdir()
    spec = RunSpec(
        run_id=RUN,
        app="app",
        group="lab",
        serverapp="a:b",
        rounds=1,
        run_config={"rate": 0.5},
        seed=1,
        bundle_digest=digest_of(b"bundle"),
        bundle_bytes=6,
        model="model",
        min_devices=1,
        round_timeout_s=60,
    )
    folder.create(spec)
    call = folder.call(1)
    call.begin()
    for device in (DEVICE, OTHER):
        call.write_message(device, b"message")
    message = SentMessage(digest=digest_of(b"message"), total_bytes=7, type="train")
    call.open(
        SentCall(
            call=1,
            phase="train",
            number=1,
            sent_at=time.time(),
            deadline=time.time() + 60,
            messages={DEVICE: message, OTHER: message},
            populations=[(1, [DEVICE, OTHER])],
        )
    )
    return call


@pytest.fixture
def mailbox(tmp_path: Path, call: CallFolder) -> Mailbox:
    """Over that call."""
    return Mailbox(tmp_path)


def _close(call: CallFolder) -> None:
    entry = RoundRecord(
        call=1, number=1, phase="train", asked=2, answered=0, failed=0, metrics={}, took_s=0, bytes_up=0, bytes_down=0
    )
    call.close(ClosedCall(why=Why.DEADLINE, replies=(), dropped={}, round=entry))


def _push(mailbox: Mailbox, reply: bytes = REPLY, *, cut: int | None = None) -> int | None:
    partial = mailbox.begin_reply(DEVICE, RUN, MESSAGE_ID, digest_of(reply), len(reply))
    if partial.missing_bytes:
        partial.append(partial.offset, reply[partial.offset : cut])
    if cut is not None:
        return None
    partial.commit()
    return mailbox.finish_reply(DEVICE, RUN, MESSAGE_ID)


def test_message_waits_for_its_device(mailbox: Mailbox) -> None:
    """An invitation carries all that the device needs, and leads to the message."""
    (invitation,) = mailbox.pending(DEVICE, RUN)
    assert (invitation.message_id, invitation.message_bytes) == (MESSAGE_ID, 7)
    assert invitation.run_config == {"rate": 0.5}
    path, total_bytes = mailbox.open_message(DEVICE, RUN, MESSAGE_ID)
    assert (path.read_bytes(), total_bytes) == (b"message", 7)


def test_reply_settles_the_message(mailbox: Mailbox, call: CallFolder) -> None:
    """Once it is here, nothing waits any more, and it says so once."""
    assert _push(mailbox) == 1
    assert call.reply_path(DEVICE).read_bytes() == REPLY
    assert mailbox.pending(DEVICE, RUN) == []
    assert _push(mailbox) is None


def test_broken_off_reply_is_resumed(mailbox: Mailbox, call: CallFolder, tmp_path: Path) -> None:
    """What arrived before the coordinator died is not sent again."""
    _push(mailbox, cut=3000)
    successor = Mailbox(tmp_path)
    assert successor.begin_reply(DEVICE, RUN, MESSAGE_ID, DIGEST, len(REPLY)).offset == 3000
    assert _push(successor) == 1
    assert call.reply_path(DEVICE).read_bytes() == REPLY


def test_other_reply_does_not_build_on_what_was_left(mailbox: Mailbox, call: CallFolder) -> None:
    """A device that computed anew starts from its first byte."""
    _push(mailbox, cut=3000)
    other = b"other" * 1000
    assert _push(mailbox, other) == 1
    assert call.reply_path(DEVICE).read_bytes() == other


def test_parts_of_other_replies_do_not_pile_up(mailbox: Mailbox, call: CallFolder) -> None:
    """A device that begins one reply after another holds the room of the last one only."""
    for number in range(3):
        _push(mailbox, bytes([number]) * 5000, cut=4000)
    assert [path.stat().st_size for path in call.incoming.iterdir()] == [4000]


def test_first_of_two_replies_at_once_counts(mailbox: Mailbox, call: CallFolder) -> None:
    """A device that sends two replies at the same time has given the one that was whole first."""
    other = b"other" * 1000
    second = mailbox.begin_reply(DEVICE, RUN, MESSAGE_ID, digest_of(other), len(other))
    assert _push(mailbox) == 1
    second.append(second.offset, other)
    second.commit()
    assert mailbox.finish_reply(DEVICE, RUN, MESSAGE_ID) is None
    assert call.reply_path(DEVICE).read_bytes() == REPLY


def test_reply_to_a_closed_call_is_taken_and_forgotten(mailbox: Mailbox, call: CallFolder) -> None:
    """The device may stop: nothing is left to send, and nothing counts."""
    _close(call)
    assert mailbox.begin_reply(DEVICE, RUN, MESSAGE_ID, DIGEST, len(REPLY)).missing_bytes == 0
    assert _push(mailbox) is None
    assert not call.reply_path(DEVICE).exists()
    assert mailbox.pending(DEVICE, RUN) == []


def test_reply_that_was_under_way_when_the_call_closed_is_forgotten(mailbox: Mailbox, call: CallFolder) -> None:
    """A round that has closed does not change, and the device hears no error."""
    partial = mailbox.begin_reply(DEVICE, RUN, MESSAGE_ID, DIGEST, len(REPLY))
    partial.append(0, REPLY)
    _close(call)
    partial.commit()
    assert mailbox.finish_reply(DEVICE, RUN, MESSAGE_ID) is None
    assert not call.reply_path(DEVICE).exists()


def test_message_of_a_closed_call_is_over(mailbox: Mailbox, call: CallFolder) -> None:
    """Who comes to pull it is told to drop it."""
    _close(call)
    with pytest.raises(NotFound, match="is over"):
        mailbox.open_message(DEVICE, RUN, MESSAGE_ID)


def test_device_gets_only_its_own(mailbox: Mailbox) -> None:
    """Another device's message is not there, whatever the id says."""
    with pytest.raises(NotFound):
        mailbox.open_message(OTHER, RUN, MESSAGE_ID)
    with pytest.raises(NotFound):
        mailbox.begin_reply(OTHER, RUN, MESSAGE_ID, DIGEST, len(REPLY))


@pytest.mark.parametrize("total_bytes", [0, -1, 4 * 7 + (16 << 20) + 1])
def test_reply_is_bounded(mailbox: Mailbox, total_bytes: int) -> None:
    """A reply has at most four times the message and 16 MiB."""
    with pytest.raises(InvalidArgument, match="at most 16777244"):
        mailbox.begin_reply(DEVICE, RUN, MESSAGE_ID, DIGEST, total_bytes)


@given(st.text(max_size=40), st.text(max_size=60))
def test_arbitrary_ids_are_not_found(run_id: str, message_id: str) -> None:
    """Ids from a device never become a path that was not meant."""
    from pathlib import Path

    with pytest.raises(NotFound):
        Mailbox(Path("/")).open_message(DEVICE, run_id, message_id)


def test_ids_that_reach_for_other_files_are_not_found(mailbox: Mailbox) -> None:
    """Nor does one that looks like an id."""
    for message_id in (f"{RUN}-1-../../{DEVICE}", f"{RUN}-../1-{DEVICE}", f"{RUN}-01\n-{DEVICE}"):
        with pytest.raises(NotFound):
            mailbox.open_message(DEVICE, RUN, message_id)
