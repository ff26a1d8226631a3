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
from edgeward_agent.reconcile import DesiredStore, Downloads, Installer, ProbationKeeper, Reconciler
from edgeward_agent.reporting import Accounting, Notes, Sampler, Uploader, resident_bytes
from edgeward_agent.serving import Agent
from edgeward_agent.supervision import supervise
from edgeward_agent.telemetry import Outbox
from edgeward_agent.trust import Authority, TrustStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from edgeward.protocol.model import Format
    from edgeward.protocol.state import ReportedState, RuntimeInfo
    from edgeward_agent.config import AgentConfig
    from edgeward_agent.link import LinkSettings, SessionEvent
    from edgeward_agent.reconcile import Authorize
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
        authorize: Whether an artifact may be installed; by default what the fleet's signed metadata says.

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
        authorize: Authorize | None = None,
    ) -> None:
        self._config = config
        self._rng = rng or Random()  # noqa: S311 - jitter is no secret
        identities = IdentityStore(state_dir.identity)
        identity = identities.load()
        runtimes = usable_runtimes(config.runtimes)
        names = {model_format: runtime.name for model_format, runtime in runtimes.items()}
        self._inventory = take_inventory(runtimes)
        self._store = SlotStore(state_dir.models, checkpoint=checkpoint, max_bytes=config.models_max_bytes)
        self._recovered = self._store.recover()
        self._outbox = Outbox(state_dir.outbox, max_bytes=config.outbox_max_bytes)
        self._notes = Notes(self._outbox, clock=_now)
        self._link = Link(identity, traffic=Traffic(), settings=link_settings)
        self.agent = Agent(state_dir.root, runtimes=names, formats=tuple(runtimes))
        trust = Authority(TrustStore(state_dir.trust), fetch_metadata=self._link.fetch_metadata, clock=_now)
        self._reconciler = self._make_reconciler(state_dir, runtimes, authorize or trust.authorize)
        self._trials = ProbationKeeper(
            self._store,
            state_dir.trials,
            monotonic=time.monotonic,
            release_of=self._reconciler.release_of,
            record=self._notes.record,
            changed=self._serving_changed,
        )
        self._presence = Presence(time.monotonic)
        self._accounting = Accounting(self._link, self._presence, self._notes)
        self._uploader = self._make_uploader()
        self._sampler = Sampler(state_dir.root, self._notes, interval=config.resource_interval)
        self._learning = self._make_learning(state_dir)
        self._keeper = self._make_session_keeper()
        self._renewer = self._make_renewer(identities)

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Run until `stop` is set, then end in order: no new work, what is counted to disk, the rest closed."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "session": self._keeper.run,
            "reconcile": self._reconciler.run,
            "trials": self._trials.run,
            "reports": self._uploader.run,
            "accounting": self._accounting.run,
            "resources": self._sampler.run,
            "learning": self._learning.run,
            "renewal": self._renewer.run,
        }
        try:
            await self._say_recovered()
            # Before anything is loaded: a version that killed the agent twice must not have a third go.
            await self._trials.look()
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

    def _make_reconciler(
        self, state_dir: StateDir, runtimes: Mapping[Format, RuntimeInfo], authorize: Authorize
    ) -> Reconciler:
        names = {model_format: runtime.name for model_format, runtime in runtimes.items()}
        downloads = Downloads(
            self._link.fetch,
            self._config.updates,
            is_metered=state_dir.metered.exists,
            local_now=lambda: _now().astimezone(),
            monotonic=time.monotonic,
        )
        installer = Installer(
            self._store,
            authorize=authorize,
            downloads=downloads,
            check=probe_check(runtimes=names),
            runtimes=runtimes,
            memory_bytes=self._inventory.memory_bytes,
        )
        return Reconciler(
            self._store,
            DesiredStore(state_dir.desired),
            installer=installer,
            runtimes=runtimes,
            backoff=self._config.backoff,
            rng=self._rng,
            monotonic=time.monotonic,
            record=self._notes.record,
            activated=self._serving_changed,
        )

    def _make_uploader(self) -> Uploader:
        return Uploader(
            self._outbox,
            self._link,
            self._presence,
            self._accounting,
            interval=self._config.report_interval,
            backoff=self._backoff(),
        )

    def _make_learning(self, state_dir: StateDir) -> Learning:
        return Learning(
            state_dir.root,
            fetch=self._link.fetch,
            exchange=GrpcExchange(self._link),
            node_config=self._config.node_config,
            clock=_now,
            worker_memory_bytes=self._config.worker_memory_bytes,
        )

    def _make_session_keeper(self) -> SessionKeeper:
        settings = KeeperSettings(heartbeat=self._config.heartbeat, refused_retry=self._config.refused_retry)
        return SessionKeeper(
            self._link, self, self._presence, backoff=self._backoff(), rng=self._rng, settings=settings
        )

    def _make_renewer(self, identities: IdentityStore) -> Renewer:
        return Renewer(
            identities,
            in_use=lambda: self._link.identity,
            request=self._link.renew,
            adopt=self._link.adopt,
            backoff=self._backoff(),
            clock=_now,
        )

    def _say_ready(self) -> None:
        serving = [f"{active.model} {active.version} ({active.flavor})" for active in self._store.installed().values()]
        _LOG.info("ready: device %s serves %s", self._link.identity.device_id, ", ".join(serving) or "nothing yet")

    async def _say_recovered(self) -> None:
        for repaired in self._recovered:
            _LOG.warning("recovered: %s", repaired)
            await asyncio.to_thread(self._notes.record, DeviceEvent(kind="recovered", detail={"what": repaired}))

    async def _serving_changed(self) -> None:
        """What serves, or runs beside it, is another."""
        await asyncio.to_thread(self._load_models)
        self._trials.wake()
        self._reconciler.look_again()

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
        self._trials.close()
        self._outbox.close()
        self._store.close()

    def _backoff(self) -> Backoff:
        return Backoff(self._config.backoff, rng=self._rng)


def _now() -> datetime:
    return datetime.now(UTC)
