"""Learning: the invitations of all runs, answered one after the other.

One at a time, because a device has one processor to spare and little memory.
What the coordinator was told is durable before; what was asked and not yet
answered is asked again at the next session, so nothing here must be remembered:
a reply that is on disk is pushed, never computed twice.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Final

from edgeward.durable import PartialFile
from edgeward.protocol.bundle import MAX_BYTES
from edgeward.protocol.digests import digest_of_file
from edgeward.protocol.errors import WireError
from edgeward_agent.backoff import Backoff, BackoffLimits
from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.learning.folders import LearningFiles, RunFiles, is_safe_name
from edgeward_agent.learning.process import MessageUnreadable, Worker, WorkerDied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import ConfigValue, RunInvitation
    from edgeward_agent.artifacts import Fetch
    from edgeward_agent.learning.exchange_link import ExchangeLink

FORGOTTEN_AFTER: Final = timedelta(days=7)

logger = logging.getLogger(__name__)


class Learning:
    """Takes part in runs.

    Args:
        state_dir: The agent's; `learning` in it is used.
        fetch: Bytes of artifacts, for bundles.
        exchange: Messages and replies.
        node_config: What this device's owner tells training code.
        clock: Aware UTC now.
        idle: After which a worker with nothing to do is ended.
        backoff: Between attempts while the link is down.
        worker_memory_bytes: Of address space, at most; None sets no bound.
        rng: For the jitter.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        fetch: Fetch,
        exchange: ExchangeLink,
        node_config: Mapping[str, ConfigValue],
        clock: Callable[[], datetime],
        idle: timedelta = timedelta(minutes=10),
        backoff: BackoffLimits | None = None,
        worker_memory_bytes: int | None = None,
        rng: Random | None = None,
    ) -> None:
        self._files = LearningFiles(state_dir / "learning")
        self._fetch = fetch
        self._exchange = exchange
        self._node_config = node_config
        self._clock = clock
        self._idle = idle
        self._backoff = backoff or BackoffLimits()
        self._worker_memory_bytes = worker_memory_bytes
        self._rng = rng or Random()  # noqa: S311  jitter
        self._waiting: dict[str, RunInvitation] = {}
        self._ended: set[str] = set()
        self._current: RunInvitation | None = None
        self._attending: asyncio.Task[None] | None = None
        self._timeout: asyncio.Timeout | None = None
        self._worker: Worker | None = None
        self._worker_run = ""
        self._wake = asyncio.Event()

    def invite(self, invitation: RunInvitation) -> None:
        """A message waits; the same one again may bring another deadline. On the event loop, as `end_run`."""
        if not (is_safe_name(invitation.run_id) and is_safe_name(invitation.message_id)):
            logger.warning("invitation to run %r refused: its ids can't be names of files", invitation.run_id[:80])
            return
        if invitation.bundle_bytes > MAX_BYTES + (1 << 20):
            logger.warning("invitation to run %s refused: %d bytes of code", invitation.run_id, invitation.bundle_bytes)
            return
        if self._is_under_way(invitation) and self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._loop_time(invitation.deadline))
            return
        # One that has just ended is asked again: where it is answered, that costs nothing.
        self._waiting[invitation.message_id] = invitation
        self._wake.set()

    def end_run(self, run_id: str) -> None:
        """Nothing more will come for the run: what is done for it stops, and its files go."""
        if not is_safe_name(run_id):
            return
        self._waiting = {key: value for key, value in self._waiting.items() if value.run_id != run_id}
        self._ended.add(run_id)
        if self._attending is not None and self._current is not None and self._current.run_id == run_id:
            self._attending.cancel()
        self._wake.set()

    async def run(self) -> None:
        """Answer invitations until cancelled; the worker is gone then."""
        await asyncio.to_thread(self._files.remove_stale, now=self._clock(), unused_for=FORGOTTEN_AFTER)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._remove_ended()
                    if self._waiting:
                        await self._attend_next(tasks)
                    else:
                        await self._rest()
        finally:
            await self._end_worker()

    def _is_under_way(self, invitation: RunInvitation) -> bool:
        return self._current is not None and self._current.message_id == invitation.message_id

    async def _attend_next(self, tasks: asyncio.TaskGroup) -> None:
        invitation = self._waiting.pop(next(iter(self._waiting)))
        self._current = invitation
        self._attending = tasks.create_task(self._attend(invitation), name=f"message {invitation.message_id}")
        try:
            await asyncio.wait([self._attending])
        finally:
            self._current = self._attending = None

    async def _rest(self) -> None:
        self._wake.clear()
        if self._waiting or self._ended:
            return
        try:
            async with asyncio.timeout(self._idle.total_seconds() if self._worker else None):
                await self._wake.wait()
        except TimeoutError:
            await self._end_worker()

    async def _remove_ended(self) -> None:
        while self._ended:
            run_id = self._ended.pop()
            if self._worker_run == run_id:
                await self._end_worker()
            await asyncio.to_thread(self._files.remove_run, run_id)

    async def _attend(self, invitation: RunInvitation) -> None:
        """Answer one message, or find out that it can't be answered."""
        about = invitation.message_id
        run = self._files.run(invitation.run_id)
        try:
            await self._answer_by_deadline(invitation, run)
        except TimeoutError:
            logger.warning("message %s: not answered by its deadline", about)
            await self._end_worker()  # a reply that is on disk stays: the deadline may be moved
        except (Refused, MessageUnreadable) as error:
            logger.warning("message %s dropped: %s", about, error)
            run.drop(about)
        except asyncio.CancelledError:
            await self._end_worker()
            raise
        except Exception:  # the outermost frame of a message: one that breaks us must not end learning
            logger.exception("message %s", about)
            await self._end_worker()

    async def _answer_by_deadline(self, invitation: RunInvitation, run: RunFiles) -> None:
        try:
            async with asyncio.timeout_at(self._loop_time(invitation.deadline)) as self._timeout:
                await self._persist_in_answering(invitation, run)
        finally:
            self._timeout = None  # one that is over can't be moved

    async def _persist_in_answering(self, invitation: RunInvitation, run: RunFiles) -> None:
        backoff = Backoff(self._backoff, rng=self._rng)
        while True:
            try:
                await self._answer(invitation, run)
                return
            except (Interrupted, WireError, OSError) as error:
                wait_s = backoff.next_wait_s()
                logger.info("message %s: %s; again in %.1f s", invitation.message_id, error, wait_s)
            await asyncio.sleep(wait_s)

    async def _answer(self, invitation: RunInvitation, run: RunFiles) -> None:
        message_id = invitation.message_id
        await asyncio.to_thread(
            run.prepare,
            bundle=invitation.bundle_digest,
            run_config=invitation.run_config,
            node_config=self._node_config,
        )
        if run.is_answered(message_id):
            return
        if not run.reply(message_id).exists():
            problem = await self._unpack_bundle(invitation)
            await self._receive(
                PartialFile(
                    run.message(message_id), digest=invitation.message_digest, total_bytes=invitation.message_bytes
                ),
                lambda offset: self._exchange.pull(invitation.run_id, message_id, offset),
            )
            await self._compute(invitation, run, problem)
        reply = run.reply(message_id)
        digest: Digest = await asyncio.to_thread(digest_of_file, reply)
        await self._exchange.push(invitation.run_id, message_id, reply, digest, reply.stat().st_size)
        await asyncio.to_thread(run.settle, message_id)

    async def _compute(self, invitation: RunInvitation, run: RunFiles, problem: str) -> None:
        if not problem:
            worker = await self._worker_for(invitation, run)
            try:
                await worker.answer(invitation.message_id)
                return
            except WorkerDied as death:
                problem = str(death)
                logger.warning("message %s: %s", invitation.message_id, problem)
        worker = await self._worker_for(invitation, run)
        try:
            await worker.fail(invitation.message_id, problem)
        except WorkerDied as death:
            # Then the worker itself can't run here: nothing can be replied, and its round closes without.
            raise Refused(f"{death}, and so did its successor") from death

    async def _unpack_bundle(self, invitation: RunInvitation) -> str:
        """Have the training code on disk; says what is wrong with it, if something is."""
        digest = invitation.bundle_digest
        if not self._files.app(digest).is_dir():
            arriving = PartialFile(self._files.bundle(digest), digest=digest, total_bytes=invitation.bundle_bytes)
            await self._receive(arriving, lambda offset: self._fetch(digest, offset))
            try:
                await asyncio.to_thread(self._files.unpack, digest)
            except WireError as error:
                return f"the training code can't be unpacked: {error}"
        return ""

    async def _receive(self, partial: PartialFile, pieces_from: Callable[[int], AsyncIterator[bytes]]) -> None:
        if not partial.is_complete:
            offset = partial.offset
            async for piece in pieces_from(offset):
                await asyncio.to_thread(partial.append, offset, piece)
                offset += len(piece)
            await asyncio.to_thread(partial.commit)

    async def _worker_for(self, invitation: RunInvitation, run: RunFiles) -> Worker:
        if self._worker is not None and self._worker.is_alive and self._worker_run == invitation.run_id:
            return self._worker
        await self._end_worker()
        app = self._files.app(invitation.bundle_digest)
        self._worker = await Worker.start(app, run, memory_bytes=self._worker_memory_bytes)
        self._worker_run = invitation.run_id
        return self._worker

    async def _end_worker(self) -> None:
        # Forgotten only once it is gone: a cancellation in between leaves it to the next caller.
        if self._worker is not None:
            await self._worker.end()
            self._worker, self._worker_run = None, ""

    def _loop_time(self, instant: datetime) -> float:
        return asyncio.get_running_loop().time() + (instant - self._clock()).total_seconds()
