"""What `get_node_ids` answers: the devices that are online, with waits that end.

Flower's strategies ask in a loop, once a second and for ever, while too few are
online. So the answers after the second one wait for a change, longer each time,
and after a day the run fails with the reason. An answer matters once a call
was made on its ground; with that call it is written to the journal.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from edgeward_coordinator.aggregation.control import Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward_coordinator.aggregation.control import ControlLine

MAX_WAIT_S = 24 * 3600.0

_POLL_S = 0.25
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0
# FedAvg asks how many there are, then which: only the third question in a row means that they were too few.
_FREE_QUESTIONS = 2

Answers = list[tuple[int, list[str]]]


class Source(Protocol):
    """What is needed of the channel to the server."""

    def population(self) -> list[str]:
        """The devices that are online now."""
        ...

    def tell(self, line: ControlLine, /) -> None:
        """Say something that needs no answer."""
        ...

    def wait(self, is_done: Callable[[], bool], /, *, within_s: float | None = None) -> bool:
        """Wait for something that the server says; raises when it says stop."""
        ...


class DevicesMissing(Exception):
    """The devices that the app needs did not come."""


class PopulationSource:
    """Answers, and remembers what it answered since the last call.

    Args:
        channel: To the server, which knows who is online.
        min_devices: A call's first answer has at least so many.
        clock: Seconds, monotonic.
    """

    def __init__(self, channel: Source, *, min_devices: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._min_devices = min_devices
        self._clock = clock
        self._lock = threading.Lock()  # never held while waiting: an app's threads may ask and send at once
        self._answers: Answers = []
        self._asked = 0
        self._asking_since = 0.0
        self.known: set[str] = set()

    def answer(self, recorded: Sequence[tuple[int, Sequence[str]]] | None) -> list[str]:
        """The devices that are online, sorted.

        Args:
            recorded: What was answered before the journal's next call; None where there is none.

        Raises:
            DevicesMissing: They did not come within a day.
        """
        with self._lock:
            self._asked += 1
            asked, last = self._asked, self._answers[-1][1] if self._answers else []
            if asked == 1:
                self._asking_since = self._clock()
        past = [devices for query, devices in recorded or () if query <= asked]
        devices = list(past[-1]) if past else self._live(asked, last)
        with self._lock:
            if not self._answers or self._answers[-1][1] != devices:
                self._answers.append((asked, devices))
            self.known.update(devices)
        return devices

    def take_answers(self) -> Answers:
        """What was answered since the last call; a call is made now."""
        with self._lock:
            answers, self._answers, self._asked = self._answers, [], 0
        return answers

    def _live(self, asked: int, last: list[str]) -> list[str]:
        if asked == 1:
            return self._poll(lambda devices: len(devices) >= self._min_devices, within_s=MAX_WAIT_S)
        pause_s = 0.0
        if asked > _FREE_QUESTIONS:
            pause_s = min(_FIRST_PAUSE_S * 2 ** min(asked - _FREE_QUESTIONS - 1, 10), _LONGEST_PAUSE_S)
        return self._poll(lambda devices: devices != last, within_s=pause_s)

    def _poll(self, is_enough: Callable[[list[str]], bool], *, within_s: float) -> list[str]:
        patience_ends = self._clock() + within_s
        told = -1
        while True:
            devices = sorted(self._channel.population())
            if is_enough(devices):
                return devices
            if self._clock() - self._asking_since >= MAX_WAIT_S:
                raise DevicesMissing(f"only {len(devices)} devices of the group were online for a day")
            if self._clock() >= patience_ends:
                return devices
            if told != len(devices) and within_s > _FIRST_PAUSE_S:
                told = len(devices)
                self._channel.tell(Activity(text=f"waiting for devices: {told} online"))
            self._channel.wait(lambda: False, within_s=_POLL_S)
