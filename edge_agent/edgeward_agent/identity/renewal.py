"""Renewal: a new key and certificate at two thirds of the certificate's life, over the connection that still holds.

Two thirds, as ACME clients do: a third of the life remains for a device that is
offline when it is due. An expired certificate can't renew itself; then only a
new enrollment helps.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from edgeward_agent.errors import AgentError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from edgeward_agent.backoff import Backoff
    from edgeward_agent.identity.store import Identity, IdentityStore, IssuedCredential

_LOG = logging.getLogger(__name__)

# The wall clock may be set meanwhile, and the device enrolled anew, so a long wait is taken in pieces.
_LONGEST_WAIT_S = 60.0


def renewal_due_at(not_before: datetime, not_after: datetime) -> datetime:
    """Two thirds into the life."""
    return not_before + (not_after - not_before) * 2 / 3


class Renewer:
    """Keeps one identity's certificate fresh."""

    def __init__(
        self,
        store: IdentityStore,
        *,
        in_use: Callable[[], Identity],
        request: Callable[[bytes], Awaitable[IssuedCredential]],
        adopt: Callable[[Identity], Awaitable[None]],
        backoff: Backoff,
        clock: Callable[[], datetime],
    ) -> None:
        """Wire it.

        Args:
            store: Where the identity is.
            in_use: The identity of the present connection.
            request: Sends a CSR (PEM) over the present identity's connection; raises `AgentError`.
            adopt: Takes the new identity into use.
            backoff: Between attempts.
            clock: Aware UTC now.
        """
        self._store = store
        self._in_use = in_use
        self._request = request
        self._adopt = adopt
        self._backoff = backoff
        self._clock = clock

    async def run(self) -> None:
        """Renew whenever it is due, for ever."""
        loop = asyncio.get_running_loop()
        rested_at = loop.time()
        while True:
            identity = await asyncio.to_thread(self._store.load)
            if identity.key_pem != self._in_use().key_pem:
                _LOG.info("enrolled anew as %s", identity.device_id)
                await self._adopt(identity)
            due = renewal_due_at(identity.not_before, identity.not_after)
            wait_s = max((due - self._clock()).total_seconds(), rested_at - loop.time())
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
                continue
            try:
                renewed = await self.renew(identity)
                self._backoff.reset()
                # To a clock that is far ahead even a new certificate is due; the coordinator must not be hammered.
                rested_at = loop.time() + (renewed.not_after - renewed.not_before).total_seconds() / 3
            except AgentError as error:
                # Being offline when it is due is ordinary and told by the session; a refusal is not.
                level = logging.DEBUG if isinstance(error, Interrupted) else logging.ERROR
                _LOG.log(level, "the certificate could not be renewed: %s", error)
                await asyncio.sleep(self._backoff.next_wait_s())

    async def renew(self, identity: Identity) -> Identity:
        """Renew now.

        Raises:
            Refused: The coordinator said no.
            Interrupted: No answer.
        """
        credential = await asyncio.to_thread(self._store.begin, name=identity.name)
        issued = await self._request(credential.csr_pem)
        renewed = await asyncio.to_thread(self._store.complete_renewal, credential, issued)
        _LOG.info("certificate renewed, valid until %s", renewed.not_after.isoformat(timespec="seconds"))
        await self._adopt(renewed)
        return renewed
