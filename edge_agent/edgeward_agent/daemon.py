"""The agent's process: every part wired to the others, run until it is asked to stop.

Nothing here waits for the network, and nothing reads the outbox as a whole: a
device that was offline for a year boots as fast as a new one, and serves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from edgeward.protocol.state import DesiredState, Heartbeat, Hello, RunEnded, RunInvitation, Welcome
from edgeward.protocol.telemetry import DeviceEvent
from edgeward_agent.artifacts import SlotStore, probe_check
from edgeward_agent.backoff import Backoff
from edgeward_agent.identity import IdentityStore, Renewer
from edgeward_agent.inventory import take_inventory, usable_runtimes
from edgeward_agent.learning import Learning
from edgeward_agent.link import GrpcExchange, KeeperSettings, Link, Presence, SessionKeeper, Traffic
from edgeward_agent.reconcile import DesiredStore, Reconciler
from edgeward_agent.reporting import Accounting, Notes, Sampler, Uploader, resident_bytes
from edgeward_agent.serving import Agent
from edgeward_agent.supervision import supervise
from edgeward_agent.telemetry import Outbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edgeward.protocol.state import ReportedState
    from edgeward_agent.config import AgentConfig
    from edgeward_agent.link import LinkSettings, SessionEvent
    from edgeward_agent.state_dir import StateDir

_LOG = logging.getLogger(__name__)


class Daemon:
    """One device's agent; made on the event loop, run once.

    Args:
        state_dir: Of an enrolled device.
        config: What its owner set.
        checkpoint: Called with each persisted step of an update.
        link_settings: Waits of the link.
        rng: For the jitter.

    Raises:
        NotEnrolled: There is no identity.
        StateInUse: Another agent runs on this state directory.
    """

    def __init__(
        self,
        state_dir: StateDir,
        config: AgentConfig,
        *,
        checkpoint: Callable[[str], None] = lambda _step: None,
        link_settings: LinkSettings | None = None,
        rng: Random | None = None,
    ) -> None:
        self._config = config
        self._rng = rng or Random()  # noqa: S311 - jitter is no secret
        identities = IdentityStore(state_dir.identity)
        identity = identities.load()
        runtimes = usable_runtimes(config.runtimes)
        self._inventory = take_inventory(runtimes)
        names = {model_format: runtime.name for model_format, runtime in runtimes.items()}

        self._store = SlotStore(state_dir.models, checkpoint=checkpoint)
        for repaired in self._store.recover():
            _LOG.warning("recovered: %s", repaired)
        self._outbox = Outbox(state_dir.outbox, max_bytes=config.outbox_max_bytes)
        self._notes = Notes(self._outbox, clock=_now)
        self.agent = Agent(state_dir.root, runtimes=names)
        self._link = Link(identity, traffic=Traffic(), settings=link_settings)
        self._presence = Presence(time.monotonic)
        self._accounting = Accounting(self._link, self._presence, self._notes)
        self._uploader = Uploader(
            self._outbox,
            self._link,
            self._presence,
            self._accounting,
            interval=config.report_interval,
            backoff=self._backoff(),
        )
        self._sampler = Sampler(state_dir.root, self._notes, interval=config.resource_interval)
        self._reconciler = Reconciler(
            self._store,
            DesiredStore(state_dir.desired),
            fetch=self._link.fetch,
            check=probe_check(runtimes=names),
            runtimes=runtimes,
            backoff=config.backoff,
            rng=self._rng,
            monotonic=time.monotonic,
            record=self._notes.record,
            activated=self._load_models,
        )
        self._learning = Learning(
            state_dir.root,
            fetch=self._link.fetch,
            exchange=GrpcExchange(self._link),
            node_config=config.node_config,
            clock=_now,
            worker_memory_bytes=config.worker_memory_bytes,
        )
        self._keeper = SessionKeeper(
            self._link,
            self,
            self._presence,
            backoff=self._backoff(),
            rng=self._rng,
            settings=KeeperSettings(heartbeat=config.heartbeat, refused_retry=config.refused_retry),
        )
        self._renewer = Renewer(
            identities,
            in_use=lambda: self._link.identity,
            request=self._link.renew,
            adopt=self._link.adopt,
            backoff=self._backoff(),
            clock=_now,
        )

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Run until `stop` is set, then end in order: no new work, what is counted to disk, the rest closed."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "session": self._keeper.run,
            "reconcile": self._reconciler.run,
            "reports": self._uploader.run,
            "accounting": self._accounting.run,
            "resources": self._sampler.run,
            "learning": self._learning.run,
            "renewal": self._renewer.run,
        }
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(supervise(name, work, backoff=self._backoff()), name=name)
                    for name, work in parts.items()
                ]
                # Loaded and warm before it says that it is ready; the network is not waited for.
                await asyncio.to_thread(self._load_models)
                self._say_ready()
                ready()
                await stop.wait()
                _LOG.info("stopping")
                for task in tasks:
                    task.cancel()
        finally:
            await self._accounting.settle()
            await asyncio.to_thread(self._close)

    # What a session needs (`SessionSide`).

    async def hello(self) -> Hello:
        """The first words, as of now."""
        size = await asyncio.to_thread(self._outbox.size)
        return Hello(
            inventory=self._inventory,
            labels={**self._link.identity.labels, **self._config.labels},
            reported=self._reconciler.say(),
            outbox_records=size.records,
        )

    async def heartbeat(self) -> Heartbeat:
        """As of now."""
        size = await asyncio.to_thread(self._outbox.size)
        return Heartbeat(
            at=_now(), outbox_records=size.records, outbox_bytes=size.bytes, resident_bytes=resident_bytes()
        )

    async def next_report(self) -> ReportedState:
        """The next change."""
        return await self._reconciler.next_report()

    def received(self, event: SessionEvent) -> None:
        """To whom it concerns."""
        match event:
            case Welcome():
                self._reconciler.link_up()
                self._uploader.wake()
            case DesiredState():
                self._reconciler.set_desired(event)
            case RunInvitation():
                self._learning.invite(event)
            case RunEnded(run_id=run_id):
                self._learning.end_run(run_id)

    def _say_ready(self) -> None:
        serving = [f"{active.model} {active.version} ({active.flavor})" for active in self._store.installed().values()]
        _LOG.info("ready: device %s serves %s", self._link.identity.device_id, ", ".join(serving) or "nothing yet")

    def _load_models(self) -> None:
        if not self._config.load_models:
            return
        try:
            self.agent.refresh()
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises
            # What this process served goes on; others load it for themselves.
            _LOG.error("this process can't serve what is active: %s", error)
            self._notes.record(DeviceEvent(kind="error", detail={"part": "serving", "error": str(error)}))

    def _close(self) -> None:
        self.agent.close()
        self._outbox.close()
        self._store.close()

    def _backoff(self) -> Backoff:
        return Backoff(self._config.backoff, rng=self._rng)


def _now() -> datetime:
    return datetime.now(UTC)
