"""A run's folder: mailbox between the ServerApp's process and the devices, and journal of the run, in one.

    run.json               the specification
    app/  work/  home/     the unpacked bundle; the ServerApp's working folder; its FLWR_HOME
    log.txt                what the ServerApp's process printed
    pulls.jsonl            which replies each `pull_messages` returned, for apps that pull themselves
    calls/000001/          one send-and-receive
        messages/<device>.bin   what each device is asked; removed once the call has closed
        sent.json               written when all messages are durable: the call is open
        incoming/               replies on their way in
        replies/<device>.bin    durable before it is acknowledged to the device
        closed.json             which replies count, in the order of the messages: the call is closed
    result.npz  result.json  what came out; result.json is written last and only when the app ended well
    failure.json             why the app failed, where it did

Whoever dies, the files say what has happened, and nothing is asked again that
stands here as answered. Writers: the ServerApp's process (which holds `lock`)
writes all but `incoming/` and `replies/`, which are the server's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeward.durable import fsync_folder, write_atomic
from edgeward_coordinator.aggregation.records import RoundRecord, RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeward.protocol.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """One message of a call: its bytes, and Flower's message type."""

    digest: Digest
    total_bytes: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCall:
    """A call that is open: whom it asks, in the app's order, and until when (seconds since the epoch).

    `populations` holds what `get_node_ids` answered between the call before and
    this one: (number of the query, devices), where the answer changed.
    """

    call: int
    phase: str
    number: int
    sent_at: float
    deadline: float
    messages: Mapping[str, SentMessage]
    populations: Sequence[tuple[int, Sequence[str]]]


class Why(StrEnum):
    """What closed a call."""

    ANSWERED = "answered"
    DEADLINE = "deadline"
    ABANDONED = "abandoned"
    """A replay came to ask something else here: nothing of this call counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCall:
    """How a call ended: `replies` count, in this order; `dropped` do not, with the reason."""

    why: Why
    replies: tuple[str, ...]
    dropped: Mapping[str, str]
    round: RoundRecord


class CallFolder:
    """The files of one call."""

    def __init__(self, path: Path, *, call: int) -> None:
        self.path = path
        self.call = call

    def message_path(self, device_id: str) -> Path:
        """What the device is asked."""
        return self.path / "messages" / f"{device_id}.bin"

    def reply_path(self, device_id: str) -> Path:
        """What the device answered."""
        return self.path / "replies" / f"{device_id}.bin"

    @property
    def incoming(self) -> Path:
        """Where replies arrive."""
        return self.path / "incoming"

    @property
    def is_closed(self) -> bool:
        """Whether it is decided which replies count."""
        return (self.path / "closed.json").exists()

    def begin(self) -> None:
        """Start anew: what is here of a call that was never sent is of no use."""
        shutil.rmtree(self.path, ignore_errors=True)
        for name in ("messages", "incoming", "replies"):
            (self.path / name).mkdir(parents=True)
        fsync_folder(self.path.parent)

    def write_message(self, device_id: str, data: bytes) -> None:
        """Durable once `open` has returned."""
        with self.message_path(device_id).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def open(self, sent: SentCall) -> None:
        """From here on devices may pull and answer; again with another deadline is fine."""
        fsync_folder(self.path / "messages")
        fsync_folder(self.path)
        write_atomic(self.path / "sent.json", _encode(sent))

    def read_sent(self) -> SentCall | None:
        """The call as it was sent; None where it was not, or not in full."""
        document = _read(self.path / "sent.json")
        if document is None:
            return None
        messages = {device: SentMessage(**entry) for device, entry in document.pop("messages").items()}
        populations = [(query, devices) for query, devices in document.pop("populations")]
        return SentCall(messages=messages, populations=populations, **document)

    def replied(self) -> frozenset[str]:
        """The devices whose replies are here."""
        replies = self.path / "replies"
        return frozenset(path.stem for path in replies.glob("*.bin")) if replies.is_dir() else frozenset()

    def close(self, closed: ClosedCall) -> None:
        """Decide which replies count; the messages are not needed after."""
        write_atomic(self.path / "closed.json", _encode(closed))
        shutil.rmtree(self.path / "messages", ignore_errors=True)

    def read_closed(self) -> ClosedCall | None:
        """How it ended; None where it is not closed."""
        document = _read(self.path / "closed.json")
        if document is None:
            return None
        entry = RoundRecord(**document.pop("round"))
        return ClosedCall(
            why=Why(document["why"]), replies=tuple(document["replies"]), dropped=document["dropped"], round=entry
        )


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.app = path / "app"
        self.work = path / "work"
        self.home = path / "home"
        self.log = path / "log.txt"
        self.lock = path / "lock"
        self.arrays = path / "result.npz"

    def create(self, spec: RunSpec) -> None:
        """Complete the folder, in which `app` stands already."""
        for folder in (self.work, self.home, self.path / "calls"):
            folder.mkdir(exist_ok=True)
        write_atomic(self.path / "run.json", _encode(spec))
        fsync_folder(self.path.parent)

    def read_spec(self) -> RunSpec | None:
        """The specification; None where the folder was never completed."""
        document = _read(self.path / "run.json")
        return None if document is None else RunSpec(**document)

    def call(self, number: int) -> CallFolder:
        """The folder of one call."""
        return CallFolder(self.path / "calls" / f"{number:06d}", call=number)

    def calls(self) -> Iterator[CallFolder]:
        """All that were begun, in order."""
        folder = self.path / "calls"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            if name.isdecimal():
                yield self.call(int(name))

    def devices_asked(self) -> list[str]:
        """Every device that a message was ever sent to."""
        sent = (call.read_sent() for call in self.calls())
        return sorted({device for entry in sent if entry is not None for device in entry.messages})

    def pulls(self) -> AppendLog:
        """What `pull_messages` returned."""
        return AppendLog(self.path / "pulls.jsonl")

    def write_result(self, document: Mapping[str, Any]) -> None:
        """The app ended well."""
        write_atomic(self.path / "result.json", json.dumps(document).encode())

    def read_result(self) -> dict[str, Any] | None:
        """What came out; None where the app has not ended well."""
        return _read(self.path / "result.json")

    def write_failure(self, reason: str) -> None:
        """The app failed."""
        write_atomic(self.path / "failure.json", json.dumps({"reason": reason}).encode())

    def read_failure(self) -> str | None:
        """Why the app failed; None where it did not."""
        document = _read(self.path / "failure.json")
        return None if document is None else str(document["reason"])

    def last_words(self, *, max_bytes: int = 2000) -> str:
        """The end of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - max_bytes))
            return file.read().decode(errors="replace").strip()

    def bound_log(self, max_bytes: int) -> None:
        """Empty a log that has grown past all use; who writes to it appends, so goes on from its new start."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > max_bytes:
                os.truncate(self.log, 0)

    def forget_calls(self) -> None:
        """What devices sent does not outlive the run."""
        shutil.rmtree(self.path / "calls", ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


class AppendLog:
    """JSON lines that are durable one by one; a line that a kill cut off is as if it was never written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Any]:
        """All whole lines; what follows them is cut off, so that the next line starts on its own."""
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            os.truncate(self._path, len(whole))
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, entry: object) -> None:
        """Durable on return."""
        with self._path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _encode(record: Any) -> bytes:  # noqa: ANN401
    return json.dumps(dataclasses.asdict(record), indent=1).encode()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return document
