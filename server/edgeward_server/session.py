"""One open session of a device: what waits to go down its stream, and how the stream ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from edgeward.protocol.state import DesiredState, RunEnded, RunInvitation, Welcome
from edgeward_coordinator.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from edgeward_coordinator.fleet import DeviceIdentity

# What waits for one device; what overflows is computed anew when it comes back.
_MAX_WAITING = 256


SessionDown = Welcome | DesiredState | RunInvitation | RunEnded


class DeviceSession:
    """One open stream of a device: what waits to go down, and how it ends."""

    def __init__(self, device: DeviceIdentity, *, can_train: bool, now_s: float) -> None:
        self.device_id = device.id
        self.group = device.group
        self.can_train = can_train
        self.heard_at_s = now_s
        self.sent_generation = -1
        self._waiting: deque[SessionDown] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether something sent now may still arrive."""
        return not self._ended

    def send(self, message: SessionDown) -> None:
        """Let a message wait for its turn; a session that does not read is ended."""
        if len(self._waiting) >= _MAX_WAITING:
            self.end(Unavailable(f"{_MAX_WAITING} messages wait for this device and it reads none"))
        if self.is_open:
            self._waiting.append(message)
            self._wake.set()

    def end(self, error: Exception | None = None) -> None:
        """Send no more and end the stream, with `error` where given; the first ending stays."""
        if self.is_open:
            self._ended, self._error = True, error
            self._waiting.clear()
            self._wake.set()

    async def outgoing(self) -> AsyncGenerator[SessionDown, None]:
        """What goes down, until the end.

        Raises:
            Exception: What the session was ended with.
        """
        while self.is_open:
            self._wake.clear()
            while self._waiting:
                yield self._waiting.popleft()
            if self.is_open:
                await self._wake.wait()
        if self._error is not None:
            raise self._error
