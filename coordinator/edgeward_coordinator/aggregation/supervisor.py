"""One run's shell: waits for its devices, keeps its ServerApp's process going, and sees it to its end.

Whatever happens is in the journal before it is acted on here, so a supervisor
that starts over (the server was restarted, the process was killed) does nothing
twice that a device could see.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from edgeward_coordinator.aggregation.control import (
    Activity,
    CallClosed,
    CallOpened,
    ControlLine,
    Population,
    PopulationAsked,
    Replied,
)
from edgeward_coordinator.aggregation.journal import Why
from edgeward_coordinator.aggregation.process import ServerAppProcess, describe_end, start_process
from edgeward_coordinator.aggregation.states import RunEvent, RunState
from edgeward_coordinator.errors import CoordinatorError, Unavailable
from edgeward_coordinator.registry import Lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from edgeward.protocol.state import RunInvitation
    from edgeward_coordinator.aggregation.journal import RunFolder, SentCall
    from edgeward_coordinator.aggregation.mailbox import Mailbox
    from edgeward_coordinator.aggregation.records import RoundRecord, RunSpec
    from edgeward_coordinator.registry import Registry

MAX_DEATHS: Final = 3
"""So often in a row a process may die without having closed a call."""

_POLL_S: Final = 0.5
_PAUSE_S: Final = 0.5

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class DeviceLink(Protocol):
    """Who is reachable, and how; called on the event loop."""

    def trainable(self, group: str) -> Collection[str]:
        """The devices of a group that have a session and the packages to train."""
        ...

    def invite(self, device_id: str, invitation: RunInvitation) -> None:
        """Tell a device that a message waits; one that is offline is told at its next session."""
        ...

    def end_run(self, device_ids: Iterable[str], run_id: str) -> None:
        """Tell devices that nothing more will come for a run."""
        ...


class RunBook(Protocol):
    """Where a supervisor writes down how its run stands; blocking, called in threads."""

    def advance(self, run_id: str, event: RunEvent, *, words: str = "", version: int = 0) -> None:
        """Something happened to the run."""
        ...

    def add_round(self, run_id: str, entry: RoundRecord) -> None:
        """A round has closed."""
        ...


class Supervisor:
    """Runs one run.

    Args:
        spec: The run's.
        state: Where it stands: pending or running.
        mailbox: Its messages and replies.
        link: To the devices.
        registry: Where what comes out of it goes.
        book: Where it is written down.
        actor: Who started the run.
        tell_activity: Called with what the run does now, in words.
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        state: RunState,
        mailbox: Mailbox,
        link: DeviceLink,
        registry: Registry,
        book: RunBook,
        actor: str,
        tell_activity: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._state = state
        self._mailbox = mailbox
        self._folder: RunFolder = mailbox.run_folder(spec.run_id)
        self._link = link
        self._registry = registry
        self._book = book
        self._actor = actor
        self._tell_activity = tell_activity
        self._process: ServerAppProcess | None = None
        self._stopped = asyncio.Event()
        self._open: dict[int, _OpenCall] = {}
        self._noted: set[int] = set()

    def stop(self) -> None:
        """The run was stopped: end what goes on. Legal at any time."""
        self._stopped.set()

    def replied(self, call: int, device_id: str) -> None:
        """A reply of this run is durable."""
        if self._process is not None:
            self._process.tell(Replied(call=call, device=device_id))
        if call in self._open:
            self._open[call].replied.add(device_id)
            self._tell_activity(self._open[call].progress)

    async def run(self) -> None:
        """To the run's end, or until cancelled: then the run goes on at the next start."""
        if self._state is RunState.PENDING and await self._gather_devices():
            await self._patiently(lambda: self._book.advance(self._spec.run_id, RunEvent.DEVICES_GATHERED))
        if not self._stopped.is_set():
            await self._train()
        await self._clear_up()

    async def _gather_devices(self) -> bool:
        """Wait until enough are online; says whether they are (or the run was stopped)."""
        while not self._stopped.is_set():
            count, wanted = len(self._link.trainable(self._spec.group)), self._spec.min_devices
            if count >= wanted:
                return True
            self._tell_activity(f"waiting for devices: {count} of {wanted} online")
            await self._pause(_POLL_S)
        return False

    async def _train(self) -> None:
        """Start the process, again where it dies, until the app has ended."""
        deaths, last_words = 0, ""
        while not self._stopped.is_set():
            failure = self._folder.read_failure()
            if failure is not None or deaths >= MAX_DEATHS:
                await self._fail(failure or f"the ServerApp's process {last_words}, {deaths} times in a row")
                return
            if self._folder.read_result() is not None:
                await self._finish()
                return
            closed_before = self._noted.copy()
            last_words = describe_end(await self._live_once())
            deaths = 1 if self._noted > closed_before else deaths + 1
            if not self._stopped.is_set() and not self._has_ended():
                logger.warning("run %s: the ServerApp's process %s", self._spec.run_id, last_words)
                await self._pause(_PAUSE_S * random.uniform(0.5, 1.0) * deaths)  # noqa: S311

    def _has_ended(self) -> bool:
        return self._folder.read_result() is not None or self._folder.read_failure() is not None

    async def _live_once(self) -> int:
        """One life of the process, to its end; its exit status."""
        self._tell_activity("starting the ServerApp")
        async with start_process(self._folder, self._spec) as process:
            self._process = process
            try:
                return await self._converse(process)
            finally:
                self._process = None

    async def _converse(self, process: ServerAppProcess) -> int:
        """Do what the process asks for until it has ended, or the run was stopped; its exit status."""

        async def listen() -> None:
            async for line in process.lines():
                await self._take(process, line)

        name = f"run {self._spec.run_id}"
        listening = asyncio.create_task(listen(), name=f"{name}: listening")
        ending = asyncio.create_task(process.ended(), name=f"{name}: end of the process")
        stopping = asyncio.create_task(self._stopped.wait(), name=f"{name}: stop")
        tasks = {listening, ending, stopping}
        try:
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.is_set():
                await process.stop()
                return 0
            process.kill_group()  # what the app forked holds the pipe open
            await listening  # what the process said last is still to be taken
            return ending.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _take(self, process: ServerAppProcess, line: ControlLine) -> None:
        match line:
            case PopulationAsked():
                process.tell(Population(devices=sorted(self._link.trainable(self._spec.group))))
            case CallOpened(call=call):
                await self._invite(call)
            case CallClosed(call=call):
                await self._note_round(call)
            case Activity(text=text):
                self._tell_activity(text)
            case _:
                raise ValueError(f"the process does not say {type(line).__name__}")

    async def _invite(self, number: int) -> None:
        call = self._folder.call(number)
        sent, replied = await asyncio.to_thread(lambda: (call.read_sent(), call.replied()))
        if sent is None:
            return
        self._open[number] = _OpenCall(sent=sent, replied=set(replied))
        self._tell_activity(self._open[number].progress)
        for device_id in sent.messages.keys() - replied:
            invitation = self._mailbox.invitation(self._spec.run_id, sent, device_id)
            if invitation is not None:
                self._link.invite(device_id, invitation)

    async def _note_round(self, number: int) -> None:
        closed = await asyncio.to_thread(self._folder.call(number).read_closed)
        self._open.pop(number, None)
        if closed is not None and closed.why is not Why.ABANDONED:
            await self._patiently(lambda: self._book.add_round(self._spec.run_id, closed.round))
        self._noted.add(number)

    async def _finish(self) -> None:
        result = self._folder.read_result() or {}
        version, words = 0, str(result.get("note", ""))
        if result.get("has_arrays"):
            self._tell_activity("registering the model")
            try:
                version = await self._patiently(self._register)
            except CoordinatorError as error:
                await self._fail(f"what was learned could not be registered: {error}; it is at {self._folder.arrays}")
                return
        await self._conclude(RunEvent.APP_ENDED, words=words, version=version)

    def _register(self) -> int:
        lineage = Lineage(
            run_id=self._spec.run_id, code_digest=self._spec.bundle_digest, note=f"learned by {self._spec.app}"
        )
        version = self._registry.create_arrays_version(
            model=self._spec.model, path=self._folder.arrays, lineage=lineage, actor=self._actor
        )
        return version.number

    async def _fail(self, reason: str) -> None:
        logger.warning("run %s failed: %s", self._spec.run_id, reason)
        await self._conclude(RunEvent.APP_FAILED, words=reason)

    async def _conclude(self, event: RunEvent, *, words: str, version: int = 0) -> None:
        # A server that was killed may have missed what the process said of its last calls.
        calls = await asyncio.to_thread(lambda: [call for call in self._folder.calls() if call.is_closed])
        for call in calls:
            if call.call not in self._noted:
                await self._note_round(call.call)
        await self._patiently(lambda: self._book.advance(self._spec.run_id, event, words=words, version=version))

    async def _clear_up(self) -> None:
        devices = await asyncio.to_thread(self._folder.devices_asked)
        self._link.end_run(devices, self._spec.run_id)
        await asyncio.to_thread(self._folder.forget_calls)
        self._mailbox.forget(self._spec.run_id)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _patiently(self, step: Callable[[], _T]) -> _T:
        """In a thread, again while the database or the object store is away."""
        while True:
            try:
                return await asyncio.to_thread(step)
            except Unavailable as error:
                logger.warning("run %s waits: %s", self._spec.run_id, error)
                await asyncio.sleep(error.retry_after.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311


@dataclass(slots=True, kw_only=True)
class _OpenCall:
    sent: SentCall
    replied: set[str]

    @property
    def progress(self) -> str:
        return (
            f"{self.sent.phase} of round {self.sent.number}: {len(self.replied)} of {len(self.sent.messages)} replies"
        )
