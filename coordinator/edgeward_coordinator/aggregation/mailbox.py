"""The devices' side of the journal: messages out, replies in. Thread-safe, and right without any memory.

Everything is read from the run's files, so it works at once after a restart,
when no ServerApp's process is up yet. A reply is durable under its final name
before it is acknowledged; there is at most one for each message, the first.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeward.durable import PartialFile, fsync_folder
from edgeward.protocol.state import RunInvitation
from edgeward_coordinator.aggregation.journal import RunFolder
from edgeward_coordinator.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward_coordinator.aggregation.journal import CallFolder, SentCall
    from edgeward_coordinator.aggregation.records import RunSpec

_MESSAGE_ID = re.compile(r"([0-9a-f]{16})-([0-9]{1,9})-([0-9a-f]{16})")

_REPLY_FACTOR, _REPLY_ALLOWANCE = 4, 16 << 20


class Mailbox:
    """Messages and replies of all runs.

    Args:
        folder: Holds a folder for each run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._specs: dict[str, RunSpec] = {}
        # Calls known to be closed, so that finding the open ones costs no look at each.
        self._closed: defaultdict[str, set[int]] = defaultdict(set)

    def run_folder(self, run_id: str) -> RunFolder:
        """The files of a run."""
        return RunFolder(self._folder / run_id)

    def open_message(self, device_id: str, run_id: str, message_id: str) -> tuple[Path, int]:
        """The file of a message, and its length.

        Raises:
            NotFound: There is no such message for this device, or not any more.
        """
        call = self._call_of(device_id, run_id, message_id)
        path = call.message_path(device_id)
        try:
            return path, path.stat().st_size
        except FileNotFoundError as error:
            raise _over(message_id) from error

    def begin_reply(
        self, device_id: str, run_id: str, message_id: str, digest: Digest, total_bytes: int
    ) -> PartialFile:
        """Receive a reply, or go on with one.

        Returns:
            Where the bytes go. It is complete from the start where the reply is not needed any more:
            then there is nothing to send, and the device may forget it.

        Raises:
            NotFound: The device was never asked this.
            InvalidArgument: The reply is larger than a reply to this message can be.
        """
        call = self._call_of(device_id, run_id, message_id)
        sent = call.read_sent()
        if sent is None or device_id not in sent.messages:
            raise _over(message_id)
        for settled in (call.reply_path(device_id), call.path / "closed.json"):
            if settled.exists():
                return PartialFile(settled, digest=digest, total_bytes=total_bytes)
        most = _REPLY_FACTOR * sent.messages[device_id].total_bytes + _REPLY_ALLOWANCE
        if not 0 < total_bytes <= most:
            raise InvalidArgument(f"a reply of {total_bytes} bytes to {message_id}; at most {most} are taken")
        # The digest is in the name: what another attempt left is never taken for the beginning of this one. And it
        # goes, or a device that announces another reply each time could fill the disk.
        name = f"{device_id}-{digest[:16]}.bin"
        for path in call.incoming.glob(f"{device_id}-*.part"):
            if path.name != f"{name}.part":
                path.unlink(missing_ok=True)
        return PartialFile(call.incoming / name, digest=digest, total_bytes=total_bytes)

    def finish_reply(self, device_id: str, run_id: str, message_id: str) -> int | None:
        """Make what has arrived the reply; durable on return, idempotent.

        Returns:
            The call's number where this settled it, None where nothing is new.

        Raises:
            NotFound: The device was never asked this.
        """
        call = self._call_of(device_id, run_id, message_id)
        with self._lock:
            arrived = [path for path in call.incoming.glob(f"{device_id}-*.bin") if path.is_file()]
            settles = bool(arrived) and not call.is_closed and not call.reply_path(device_id).exists()
            if settles:
                arrived[0].replace(call.reply_path(device_id))
                fsync_folder(call.reply_path(device_id).parent)
            for path in call.incoming.glob(f"{device_id}-*"):
                path.unlink(missing_ok=True)
        return call.call if settles else None

    def pending(self, device_id: str, run_id: str) -> list[RunInvitation]:
        """The messages of a run that wait for this device."""
        found = []
        for call, sent in self.open_calls(run_id):
            if device_id in sent.messages and not call.reply_path(device_id).exists():
                invitation = self.invitation(run_id, sent, device_id)
                if invitation is not None:
                    found.append(invitation)
        return found

    def invitation(self, run_id: str, sent: SentCall, device_id: str) -> RunInvitation | None:
        """How the device is told of its message; None where the run's folder is gone."""
        spec = self._spec(run_id)
        if spec is None:
            return None
        message = sent.messages[device_id]
        return RunInvitation(
            run_id=run_id,
            message_id=f"{run_id}-{sent.call}-{device_id}",
            message_digest=message.digest,
            message_bytes=message.total_bytes,
            bundle_digest=spec.bundle_digest,
            bundle_bytes=spec.bundle_bytes,
            deadline=datetime.fromtimestamp(sent.deadline, UTC),
            run_config=spec.run_config,
        )

    def open_calls(self, run_id: str) -> list[tuple[CallFolder, SentCall]]:
        """The calls of a run that wait for replies."""
        with self._lock:
            closed = self._closed[run_id].copy()
        found = []
        for call in self.run_folder(run_id).calls():
            if call.call in closed:
                continue
            if call.is_closed:
                with self._lock:
                    self._closed[run_id].add(call.call)
                continue
            sent = call.read_sent()
            if sent is not None:
                found.append((call, sent))
        return found

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        with self._lock:
            self._closed.pop(run_id, None)
            self._specs.pop(run_id, None)

    def _call_of(self, device_id: str, run_id: str, message_id: str) -> CallFolder:
        named = _MESSAGE_ID.fullmatch(message_id)
        if named is None or named[1] != run_id or named[3] != device_id:
            raise NotFound(f"no message {message_id[:80]!r} for this device in run {run_id[:80]!r}")
        call = self.run_folder(run_id).call(int(named[2]))
        if not call.path.is_dir():
            raise _over(message_id)
        return call

    def _spec(self, run_id: str) -> RunSpec | None:
        with self._lock:
            spec = self._specs.get(run_id)
        if spec is None:
            spec = self.run_folder(run_id).read_spec()
            if spec is not None:
                with self._lock:
                    self._specs[run_id] = spec
        return spec


def _over(message_id: str) -> NotFound:
    return NotFound(f"the message {message_id[:80]!r} is over, or never was", hint="drop it; its round has closed")
