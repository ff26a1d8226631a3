"""The runs of a coordinator: started, watched, stopped, and kept going.

Rows say which runs there are and how they stand, folders hold what they do.
The loop looks at both: an unfinished run has a supervisor, any other has none.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.aggregation import store
from edgeward_coordinator.aggregation.intake import SEED_BITS, RunRequest, admit
from edgeward_coordinator.aggregation.journal import RunFolder
from edgeward_coordinator.aggregation.mailbox import Mailbox
from edgeward_coordinator.aggregation.states import RunEvent, RunState, next_state
from edgeward_coordinator.aggregation.supervisor import DeviceLink, Supervisor
from edgeward_coordinator.errors import NotFound, Unavailable
from edgeward_coordinator.storage import Change

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime
    from pathlib import Path

    from edgeward.durable import PartialFile
    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import RunInvitation
    from edgeward_coordinator.aggregation.records import RoundRecord, RunRecord, RunSpec
    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.storage import Database

__all__ = ["DeviceLink", "RunRequest", "Runs"]

_POLL_S: Final = 1.0
_MAX_LISTED: Final = 200
_MAX_WORDS: Final = 2000
# A folder without a row is what a coordinator left that died while it started a run; younger ones may become one.
_ORPHAN_AGE_S: Final = 3600.0
_MAX_LOG_BYTES: Final = 64 << 20

logger = logging.getLogger(__name__)


class Runs:
    """Federated runs; thread-safe but for `run` and `changes`, which belong to one event loop.

    Args:
        database: Where rows live.
        registry: Where bundles come from and models go.
        link: To the devices.
        folder: Holds a folder for each run.
        clock: The instant now.
    """

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        link: DeviceLink,
        folder: Path,
        clock: Callable[[], datetime],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = database
        self._registry = registry
        self._link = link
        self._folder = folder
        self._clock = clock
        self._mailbox = Mailbox(folder)
        self._supervisors: dict[str, Supervisor] = {}
        self._activities: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        self._changed = asyncio.Event()

    def start(self, request: RunRequest, *, actor: str) -> RunRecord:
        """Start a run of an app whose bundle was uploaded.

        Raises:
            NotFound: The bundle was not uploaded.
            InvalidArgument: It is no Flower app, or something in the request does not fit it.
        """
        run_id, drawn_seed = secrets.token_hex(8), secrets.randbits(SEED_BITS - 1) + 1
        folder = self._mailbox.run_folder(run_id)
        try:
            spec = admit(request, run_id=run_id, drawn_seed=drawn_seed, registry=self._registry, folder=folder)
            folder.create(spec)
            self._insert(spec, actor)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        self._poke()
        return self.get(run_id)

    def get(self, run_id: str) -> RunRecord:
        """A run as it is now.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            record = store.load_run(connection, run_id)
        if record is None:
            raise _no_run(run_id)
        return self._with_activity(record)

    def list_runs(self, group: str = "") -> list[RunRecord]:
        """The newest runs, newest first; of all groups where none is named."""
        with self._database.read() as connection:
            records = store.load_runs(connection, group=group, limit=_MAX_LISTED)
        return [self._with_activity(record) for record in records]

    def stop(self, run_id: str, *, actor: str) -> RunRecord:
        """End a run; stopping one that was stopped changes nothing.

        Raises:
            NotFound: There is none.
            FailedPrecondition: It has ended otherwise.
        """
        if self.get(run_id).state is not RunState.STOPPED:
            change = Change(actor=actor, action="run.stop", subject=run_id, detail={})
            with self._database.change(change) as connection:
                state = store.load_state(connection, run_id, lock=True)
                if state is None:
                    raise _no_run(run_id)
                stopped = next_state(state, RunEvent.OPERATOR_STOPPED)
                store.update_run(connection, run_id, state=stopped.value, ended_at=self._clock())
            self._poke()
        return self.get(run_id)

    def pending_invitations(self, device_id: str) -> list[RunInvitation]:
        """What waits for a device: to be sent to it at the start of each session."""
        with self._database.read() as connection:
            unfinished = store.load_unfinished(connection)
        return [invitation for run_id in unfinished for invitation in self._mailbox.pending(device_id, run_id)]

    def open_message(self, device_id: str, run_id: str, message_id: str) -> tuple[Path, int]:
        """See `Mailbox.open_message`."""
        return self._mailbox.open_message(device_id, run_id, message_id)

    def begin_reply(
        self, device_id: str, run_id: str, message_id: str, digest: Digest, total_bytes: int
    ) -> PartialFile:
        """See `Mailbox.begin_reply`."""
        return self._mailbox.begin_reply(device_id, run_id, message_id, digest, total_bytes)

    def finish_reply(self, device_id: str, run_id: str, message_id: str) -> None:
        """Make what has arrived the reply, durable on return, and tell the run of it."""
        call = self._mailbox.finish_reply(device_id, run_id, message_id)
        if call is not None:
            self._on_loop(lambda: self._replied(run_id, call, device_id))

    async def changes(self, run_id: str) -> AsyncGenerator[RunRecord, None]:
        """The run now, then again at each change, until it has ended.

        Raises:
            NotFound: There is none.
        """
        last: RunRecord | None = None
        while last is None or not last.state.has_ended:
            changed = self._changed
            record = await asyncio.to_thread(self.get, run_id)
            if record != last:
                last = record
                yield record
            elif not record.state.has_ended:
                # What another coordinator writes sets no event here.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await changed.wait()

    async def run(self) -> None:
        """Keep every unfinished run going until cancelled; each then goes on at the next start."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            swept = False
            while True:
                self._look.clear()
                try:
                    if not swept:
                        await asyncio.to_thread(self._sweep)
                        swept = True
                    await self._reconcile(tasks)
                except Unavailable as error:  # what goes on goes on: supervisors wait for the database themselves
                    logger.warning("runs can't be looked at: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._look.wait()

    def advance(self, run_id: str, event: RunEvent, *, words: str = "", version: int = 0) -> None:
        """Something happened to a run; nothing does to one that has ended already (the operator was faster)."""
        with self._database.write() as connection:
            state = store.load_state(connection, run_id, lock=True)
            if state is None or state.has_ended:
                return
            following = next_state(state, event)
            at = "ended_at" if following.has_ended else "started_at"
            values = {
                "state": following.value,
                "error": words.replace("\0", "")[:_MAX_WORDS],
                "version": version or None,
                at: self._clock(),
            }
            store.update_run(connection, run_id, **values)
        self._on_loop(self._notify)

    def add_round(self, run_id: str, entry: RoundRecord) -> None:
        """A round has closed; saying it again changes nothing."""
        with self._database.write() as connection:
            store.store_round(connection, run_id, entry)
        self._on_loop(self._notify)

    def _insert(self, spec: RunSpec, actor: str) -> None:
        detail = {"group": spec.group, "app": spec.app, "bundle": spec.bundle_digest, "model": spec.model}
        change = Change(actor=actor, action="run.start", subject=spec.run_id, detail=detail)
        with self._database.change(change) as connection:
            store.insert_run(connection, spec, at=self._clock(), actor=actor)

    def _with_activity(self, record: RunRecord) -> RunRecord:
        activity = self._activities.get(record.run_id)
        return record if activity is None or record.state.has_ended else replace(record, activity=activity)

    async def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        unfinished = await asyncio.to_thread(self._load_unfinished)
        for run_id, state in unfinished.items():
            if run_id not in self._supervisors:
                supervisor = await self._supervisor(run_id, state)
                if supervisor is not None:
                    self._supervisors[run_id] = supervisor
                    tasks.create_task(self._supervise(run_id, supervisor), name=f"run {run_id}")
        for run_id in self._supervisors.keys() - unfinished.keys():
            self._supervisors[run_id].stop()
        await asyncio.to_thread(self._bound_logs)

    async def _supervisor(self, run_id: str, state: RunState) -> Supervisor | None:
        spec = await asyncio.to_thread(self._mailbox.run_folder(run_id).read_spec)
        if spec is None:
            words = f"its folder {self._mailbox.run_folder(run_id).path} is gone"
            await asyncio.to_thread(self.advance, run_id, RunEvent.APP_FAILED, words=words)
            return None
        record = await asyncio.to_thread(self.get, run_id)
        return Supervisor(
            spec,
            state=state,
            mailbox=self._mailbox,
            link=self._link,
            registry=self._registry,
            book=self,
            actor=record.created_by,
            tell_activity=lambda text: self._tell_activity(run_id, text),
        )

    async def _supervise(self, run_id: str, supervisor: Supervisor) -> None:
        try:
            await supervisor.run()
        except Exception as error:  # the outermost frame of a run: what breaks one must not end the others
            logger.exception("run %s", run_id)
            with suppress(Unavailable):
                words = f"something went wrong in the coordinator: {error!r}"
                await asyncio.to_thread(self.advance, run_id, RunEvent.APP_FAILED, words=words)
        finally:
            self._supervisors.pop(run_id, None)
            self._activities.pop(run_id, None)
            self._notify()

    def _bound_logs(self) -> None:
        for run_id in list(self._supervisors):
            self._mailbox.run_folder(run_id).bound_log(_MAX_LOG_BYTES)

    def _load_unfinished(self) -> dict[str, RunState]:
        with self._database.read() as connection:
            return store.load_unfinished(connection)

    def _replied(self, run_id: str, call: int, device_id: str) -> None:
        supervisor = self._supervisors.get(run_id)
        if supervisor is not None:
            supervisor.replied(call, device_id)

    def _tell_activity(self, run_id: str, text: str) -> None:
        if self._activities.get(run_id) != text:
            self._activities[run_id] = text
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _poke(self) -> None:
        self._on_loop(self._look.set)
        self._on_loop(self._notify)

    def _on_loop(self, step: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the next one starts from rows and files
                self._loop.call_soon_threadsafe(step)

    def _sweep(self) -> None:
        """Remove what coordinators that died left: calls of ended runs, folders that never became a run."""
        with self._database.read() as connection:
            known, unfinished = store.load_ids(connection), store.load_unfinished(connection)
        for path in self._folder.iterdir():
            folder = RunFolder(path)
            if path.name in known and path.name not in unfinished:
                folder.forget_calls()
            elif path.name not in known and time.time() - path.stat().st_mtime > _ORPHAN_AGE_S:
                shutil.rmtree(path, ignore_errors=True)


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"no run {run_id[:80]!r}", hint="`edgeward runs list` shows all")
