"""The ServerApp's process's end of the pipes to the server.

One thread reads; the app's threads wait on a condition. When the server is gone
the process kills itself with all that it started: the server's successor starts
it again, and two must not work on one journal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, BinaryIO

from edgeward_coordinator.aggregation.control import (
    ControlLine,
    Population,
    PopulationAsked,
    Replied,
    Stop,
    decode_line,
    encode_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class RunStopped(BaseException):
    """The run was stopped. Not an `Exception`, so that an app's own handlers let it through."""


class Channel:
    """Talks to the server.

    Args:
        reader: Lines from the server.
        writer: Lines to it.
        on_end: What to do when the server is gone; does not return in the real process.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, *, on_end: Callable[[], None]) -> None:
        self._reader = reader
        self._writer = writer
        self._on_end = on_end
        self._changed = threading.Condition()
        self._asking = threading.Lock()
        self._writing = threading.Lock()
        self._population: list[str] | None = None
        self._replied: dict[int, set[str]] = defaultdict(set)
        self._stopping = False

    def start(self) -> None:
        """Listen from now on."""
        threading.Thread(target=self._listen, name="channel", daemon=True).start()

    def tell(self, line: ControlLine) -> None:
        """Say something that needs no answer."""
        with self._writing:
            self._writer.write(encode_line(line))
            self._writer.flush()

    def population(self) -> list[str]:
        """The devices that are online now."""
        with self._asking:
            with self._changed:
                self._population = None
            self.tell(PopulationAsked())
            self.wait(lambda: self._population is not None)
            return self._population or []

    def replied(self, call: int) -> set[str]:
        """The devices that the server said have replied, since this process started."""
        with self._changed:
            return set(self._replied[call])

    def wait(self, is_done: Callable[[], bool], *, within_s: float | None = None) -> bool:
        """Wait until something that the server says makes `is_done()` true.

        Returns:
            Whether it is; False after `within_s`.

        Raises:
            RunStopped: The server said to stop.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or is_done(), within_s)
            if self._stopping:
                raise RunStopped
            return is_done()

    def _listen(self) -> None:
        try:
            for line in self._reader:
                with self._changed:
                    self._take(decode_line(line))
                    self._changed.notify_all()
        finally:
            self._on_end()

    def _take(self, line: ControlLine) -> None:
        match line:
            case Population(devices=devices):
                self._population = devices
            case Replied(call=call, device=device):
                self._replied[call].add(device)
            case Stop():
                self._stopping = True
            case _:
                raise ValueError(f"the server does not say {type(line).__name__}")


def end_with_the_server() -> None:
    """Kill this process and all in its group, which it leads."""
    os.killpg(os.getpid(), signal.SIGKILL)
