"""One writer for a state directory: an advisory lock that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from edgeward_agent.artifacts.errors import StateInUse

if TYPE_CHECKING:
    from pathlib import Path

_MAX_PID_CHARACTERS = 20


class FolderLock:
    """Held from construction until `close`; child processes that exec do not inherit it.

    Raises:
        StateInUse: Another process holds it.
        OSError: The file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, _MAX_PID_CHARACTERS).decode("ascii", "replace").strip()
            self.close()
            raise StateInUse(
                f"another agent (process {holder or 'unknown'}) runs on {path.parent.parent}",
                hint="stop it first, or give this one another state directory",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Let the next one in; twice is once. The file stays: unlinking it would let two in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
