"""What learning needs of the link: messages pulled, replies pushed, and the two ways in which that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgeward_agent.errors import Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest


class ExchangeInterrupted(Interrupted):
    """The connection broke or the coordinator is away: the same again may succeed, from where it stopped."""


class ExchangeRefused(Refused):
    """The coordinator does not want this any more: the run, or the message, is over."""


class ExchangeLink(Protocol):
    """Federated messages over the link."""

    def pull(self, run_id: str, message_id: str, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a message from `offset` on.

        Raises:
            ExchangeInterrupted: The bytes stopped coming.
            ExchangeRefused: The message is over.
        """
        ...

    async def push(self, run_id: str, message_id: str, path: Path, digest: Digest, total_bytes: int) -> None:
        """Send the reply in `path`; returns once it is durable at the coordinator.

        Raises:
            ExchangeInterrupted: It may not have arrived.
            ExchangeRefused: The message is over.
        """
        ...
