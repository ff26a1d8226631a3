"""One device: the agent's own link, reconcile, trust, slots, probation, outbox and upload, without a model runtime.

In place of the runtime: the check of a model is `no_check`, which passes everything
and runs no golden set; and users who call once in a while, whose calls take as
long, fail and are as right as the version's `Behaviour` says. What they count goes
the way that it goes on a device: to the trial's file, to the outbox, to the coordinator.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks.rollout.behaviour import GOOD, Behaviour
from edgeward.protocol.state import DesiredState, Heartbeat, Hello, Inventory, RuntimeInfo, Welcome
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.backoff import Backoff, BackoffLimits
from edgeward_agent.config import UpdateSettings
from edgeward_agent.identity import IdentityStore, enroll
from edgeward_agent.link import GrpcEnrollmentClient, Link, Presence, SessionKeeper, Traffic
from edgeward_agent.reconcile import DesiredStore, Downloads, Installer, ProbationKeeper, Reconciler
from edgeward_agent.reporting import Accounting, Notes, Uploader
from edgeward_agent.state_dir import StateDir
from edgeward_agent.supervision import supervise
from edgeward_agent.telemetry import Outbox, Recorder, Subject
from edgeward_agent.telemetry.trials import TrialFile
from edgeward_agent.trust import Authority, TrustStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.enrollment import EnrollmentString
    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Flavor
    from edgeward.protocol.state import ReportedState
    from edgeward.protocol.targets import SignedTarget
    from edgeward_agent.artifacts import ActiveModel
    from edgeward_agent.link import SessionEvent
    from edgeward_agent.telemetry import SealedBatch

REPORT_INTERVAL = timedelta(seconds=30)
# So often users come, and so much they do then.
USED_EVERY_S, CALLS, LABELS = 5.0, 20, 5

_RUNTIMES = {"onnx": RuntimeInfo(name="onnxruntime", version="99.0")}
_LIMITS = BackoffLimits(initial_s=0.5, maximum_s=5.0)


async def no_check(path: Path, flavor: Flavor, golden: GoldenSet | None) -> None:
    """In place of the golden set on the device's runtime: nothing is run, everything passes."""


async def enroll_device(folder: Path, name: str, parts: EnrollmentString) -> None:
    """As `edgeward-agent enroll` does it."""
    state = StateDir(folder)
    await asyncio.to_thread(folder.mkdir, parents=True)
    client, trust = GrpcEnrollmentClient(), TrustStore(state.trust)
    await enroll(IdentityStore(state.identity), parts, client=client, trust=trust, name=name, labels={})


class CountingLink(Link):
    """The agent's link; counts the calls that are made over it."""

    calls: Counter[str]
    payload: Counter[str]

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """An artifact's bytes."""
        self.calls["fetch"] += 1
        async for piece in super().fetch(digest, offset):
            self.payload["artifacts"] += len(piece)
            yield piece

    async def fetch_metadata(self, name: str, max_bytes: int) -> bytes | None:
        """A file of signed metadata."""
        self.calls["metadata"] += 1
        content = await super().fetch_metadata(name, max_bytes)
        self.payload["metadata"] += len(content or b"")
        return content

    async def report(self, batches: list[SealedBatch]) -> list[int]:  # type: ignore[override]
        """Telemetry."""
        self.calls["report"] += 1
        self.payload["telemetry"] += sum(len(batch.payload) for batch in batches)
        return await super().report(batches)


class BenchDevice:
    """One enrolled device; made on the event loop, run once.

    Attributes:
        takes_patches: Whether it uses patches that are offered.
        behaviours: Of versions; others are good.
        served: Every version that ever served here.
    """

    def __init__(self, folder: Path) -> None:
        state, rng = StateDir(folder), random.Random()
        self.takes_patches = True
        self.behaviours: dict[int, Behaviour] = {}
        self.served: set[int] = set()
        self._trials_folder = state.trials
        self._active: ActiveModel | None = None
        self._trial: TrialFile | None = None
        self._rng = rng
        self.link = CountingLink(IdentityStore(state.identity).load(), traffic=Traffic())
        self.link.calls, self.link.payload = Counter(), Counter()
        self._store = SlotStore(state.models)
        self._store.recover()
        self._outbox = Outbox(state.outbox, max_bytes=4 << 20)
        self._recorder = Recorder(self._outbox.append, clock=_now)
        notes = Notes(self._outbox, clock=_now)
        self._trust = Authority(TrustStore(state.trust), fetch_metadata=self.link.fetch_metadata, clock=_now)
        updates = Downloads(
            self.link.fetch,
            UpdateSettings(),
            is_metered=lambda: False,
            local_now=lambda: _now().astimezone(),
            monotonic=time.monotonic,
        )
        installer = Installer(
            self._store,
            authorize=self._authorize,
            downloads=updates,
            check=no_check,
            runtimes=_RUNTIMES,  # type: ignore[arg-type]
            memory_bytes=1 << 30,
        )
        self._reconciler = Reconciler(
            self._store,
            DesiredStore(state.desired),
            installer=installer,
            runtimes=_RUNTIMES,  # type: ignore[arg-type]
            backoff=_LIMITS,
            rng=rng,
            monotonic=time.monotonic,
            record=notes.record,
            activated=self._changed,
        )
        self._keeper = ProbationKeeper(
            self._store,
            state.trials,
            monotonic=time.monotonic,
            release_of=self._reconciler.release_of,
            record=notes.record,
            changed=self._changed,
        )
        self.presence = Presence(time.monotonic)
        self._uploader = Uploader(
            self._outbox,
            self.link,
            self.presence,
            Accounting(self.link, self.presence, notes),
            interval=REPORT_INTERVAL,
            backoff=Backoff(_LIMITS, rng=rng),
        )
        self._session = SessionKeeper(
            self.link,
            self,
            self.presence,
            backoff=Backoff(_LIMITS, rng=rng),
            rng=rng,
        )

    @property
    def serving(self) -> int:
        """The version that serves; 0: none."""
        return self._active.version if self._active else 0

    @property
    def is_on_probation(self) -> bool:
        """Whether that may still be sent back."""
        return self._active is not None and self._active.probation is not None

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for part in (self._session, self._reconciler, self._keeper, self._uploader):
                name = type(part).__name__
                group.create_task(supervise(name, part.run, backoff=Backoff(_LIMITS, rng=self._rng)), name=name)
            group.create_task(self._be_used(), name="users")

    # What a session needs (`SessionSide`).

    async def hello(self) -> Hello:
        """The first words."""
        inventory = Inventory(
            agent_version="benchmark",
            architecture="x86_64",
            system="Linux",
            python="3.11",
            cores=1,
            memory_bytes=1 << 30,
            runtimes=tuple(_RUNTIMES.values()),
            can_train=False,
        )
        return Hello(inventory=inventory, labels={}, reported=self._reconciler.say(), outbox_records=0)

    async def heartbeat(self) -> Heartbeat:
        """As of now."""
        self.link.calls["heartbeat message"] += 1
        return Heartbeat(at=_now(), outbox_records=0, outbox_bytes=0, resident_bytes=0)

    async def next_report(self) -> ReportedState:
        """The next change."""
        report = await self._reconciler.next_report()
        self.link.calls["state message"] += 1
        return report

    def received(self, event: SessionEvent) -> None:
        """To whom it concerns."""
        match event:
            case Welcome():
                self._reconciler.link_up()
                self._uploader.wake()
            case DesiredState():
                self._reconciler.set_desired(event)
            case _:
                pass

    async def _authorize(self, model: str, version: int, flavor: Flavor) -> SignedTarget:
        signed = await self._trust.authorize(model, version, flavor)
        return signed if self.takes_patches else replace(signed, patches=())

    async def _changed(self) -> None:
        """What serves is another, or has passed its probation."""
        await asyncio.to_thread(self._look)
        self._keeper.wake()
        self._reconciler.look_again()
        if self._active is not None and self.is_on_probation and self._behaviour.crashes:
            await self._crash(self._active)

    def _look(self) -> None:
        self._active = next(iter(self._store.installed().values()), None)
        self.served.add(self.serving)
        if self._trial is not None:
            self._trial.close()
            self._trial = None
        if self._active is not None and self.is_on_probation:
            self._trial = TrialFile(self._trials_folder / self._active.model, _subject(self._active))

    @property
    def _behaviour(self) -> Behaviour:
        return self.behaviours.get(self.serving, GOOD)

    async def _crash(self, active: ActiveModel) -> None:
        """Two real processes die with the version in memory."""
        folder, subject = str(self._trials_folder / active.model), json.dumps(asdict(_subject(active)))
        for _ in range(2):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.rollout.crashing", folder, subject
            )
            await child.wait()

    async def _be_used(self) -> None:
        """Some calls from time to time, put down a few times an upload."""
        await asyncio.sleep(self._rng.uniform(0, USED_EVERY_S))
        times = 0
        while True:
            if self._active is not None:
                self._use(self._active)
            times += 1
            if times % 2 == 0:
                await asyncio.to_thread(self._recorder.flush)
            await asyncio.sleep(USED_EVERY_S)

    def _use(self, active: ActiveModel) -> None:
        behaviour = self._behaviour
        key = (active.model, active.version, active.flavor)
        for _ in range(CALLS):
            self._recorder.count(*key, rows=1, seconds=behaviour.latency_s * self._rng.uniform(0.9, 1.1))
            if self._trial is not None:
                self._trial.count(rows=1, failed=False)
        correct = sum(self._rng.random() < behaviour.accuracy for _ in range(LABELS))
        self._recorder.count_labels(*key, labelled=LABELS, correct=correct)
        if self._trial is not None:
            self._trial.write()


def _subject(active: ActiveModel) -> Subject:
    return Subject(role="active", version=active.version, digest=active.digest, generation=active.generation)


def _now() -> datetime:
    return datetime.now(UTC)
