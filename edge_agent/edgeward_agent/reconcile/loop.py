"""The loop that makes what runs what should run: level-triggered, a step for each model at a time, for ever.

It wakes on a new desired state, when the link comes back, when a rest ends, when
a step is done, and from time to time; what it does next follows from what is,
never from what happened. A model that fails rests or is refused, and the others
go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from edgeward.protocol.telemetry import DeviceEvent
from edgeward_agent.artifacts import DiskFull, InstallError
from edgeward_agent.backoff import Backoff
from edgeward_agent.errors import Interrupted
from edgeward_agent.reconcile.decision import DropCandidate, Install, Observed, Remove, Stage, is_settled, next_steps
from edgeward_agent.reconcile.desired_store import StoredDesired
from edgeward_agent.reconcile.downloads import NotAllowed
from edgeward_agent.reconcile.installer import Going, describe
from edgeward_agent.reconcile.report import Busy, describe_state
from edgeward_agent.reconcile.rests import Cause, Rest, Rests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from random import Random

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Format
    from edgeward.protocol.state import DesiredModel, DesiredState, ReportedState, RuntimeInfo
    from edgeward_agent.artifacts import ActiveModel, Candidate, Refusal
    from edgeward_agent.backoff import BackoffLimits
    from edgeward_agent.reconcile.decision import Step
    from edgeward_agent.reconcile.desired_store import DesiredStore
    from edgeward_agent.reconcile.installer import Installer

_LOG = logging.getLogger(__name__)

# Somebody may have changed the disk; looking is cheap.
_LOOK_AGAIN_S = 300.0

# A link that is no longer metered, the end of quiet hours, a clock that was set.
_ASK_OWNER_AGAIN_S = 10.0


class ModelStore(Protocol):
    """What the loop needs of `SlotStore`, where each is described."""

    def installed(self) -> dict[str, ActiveModel]: ...  # noqa: D102

    def candidate(self, model: str) -> Candidate | None: ...  # noqa: D102

    def refusals(self, model: str) -> tuple[Refusal, ...]: ...  # noqa: D102

    def on_disk(self) -> list[str]: ...  # noqa: D102

    def drop_candidate(self, model: str) -> None: ...  # noqa: D102

    def refuse(self, model: str, version: int, digest: Digest, release: int, reason: str) -> None: ...  # noqa: D102

    def remove(self, model: str) -> None: ...  # noqa: D102

    def collect(self, wanted: Collection[tuple[str, int]]) -> int: ...  # noqa: D102


class Reconciler:
    """One device's loop. Event loop only, but for what it gives to threads itself."""

    def __init__(
        self,
        store: ModelStore,
        memory: DesiredStore,
        *,
        installer: Installer,
        runtimes: Mapping[Format, RuntimeInfo],
        backoff: BackoffLimits,
        rng: Random,
        monotonic: Callable[[], float],
        record: Callable[[DeviceEvent], None],
        activated: Callable[[], Awaitable[None]],
    ) -> None:
        """Wire it.

        Args:
            store: Where models are.
            memory: Where the desired state is kept.
            installer: Brings versions.
            runtimes: The runtime for each format that this device may run.
            backoff: Of attempts at one model.
            rng: For the jitter.
            monotonic: Seconds of a clock that is never set.
            record: Takes note of what happened to a model, in a thread.
            activated: Awaited after what serves or runs beside has changed.
        """
        self._store = store
        self._memory = memory
        self._installer = installer
        self._runtimes = runtimes
        self._limits = backoff
        self._rng = rng
        self._monotonic = monotonic
        self._record = record
        self._activated = activated
        self._rests = Rests()
        self._backoffs: dict[str, Backoff] = {}
        self._going: dict[str, Going] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._said: ReportedState | None = None
        stored = memory.load()
        self._desired, self._reached, self._persisted = stored.desired, stored.reached, stored
        self._is_collected = False
        self._observed = self._observe()

    def set_desired(self, desired: DesiredState) -> None:
        """This should run. A step that is no longer wanted stops."""
        if desired == self._desired:
            return
        if self._desired is not None and desired.generation < self._desired.generation:
            _LOG.warning("generation %d follows %d", desired.generation, self._desired.generation)
        before = self._desired.models if self._desired is not None else ()
        for model in desired.models:
            if model not in before:
                # Decided on anew, it deserves an attempt at once.
                self._rests.forget(model.model)
                self._backoffs.pop(model.model, None)
        self._desired = desired
        self._is_collected = False
        wanted = wanted_versions(desired)
        for going in self._going.values():
            if isinstance(going.step, Install | Stage) and (going.step.model, going.step.version) not in wanted:
                going.stop("another version is wanted by now")
        self.look_again()

    def link_up(self) -> None:
        """What waited for the network is due."""
        self._rests.forget_cause(Cause.NETWORK)
        self._wake.set()

    def look_again(self) -> None:
        """Something has changed on the disk."""
        self._wake.set()
        self._changed.set()

    def release_of(self, model: str) -> int:
        """Under which release a model is desired; 0 where it is not."""
        models = self._desired.models if self._desired is not None else ()
        return next((wanted.release for wanted in models if wanted.model == model), 0)

    def say(self) -> ReportedState:
        """The reported state as of now; `next_report` waits for another one."""
        self._said = describe_state(
            self._desired,
            self._observed,
            self._rests,
            runtimes=self._runtimes,
            busy={
                model: Busy(version=going.step.version, state=going.state)
                for model, going in self._going.items()
                if isinstance(going.step, Install | Stage)
            },
            reached=self._reached,
        )
        return self._said

    async def next_report(self) -> ReportedState:
        """Wait until the reported state is another than what was said last."""
        while True:
            said = self._said
            state = self.say()
            if state != said:
                return state
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._persist()
                await self._collect()
                self._observed = await asyncio.to_thread(self._observe)
                steps = next_steps(
                    self._desired,
                    self._observed,
                    self._rests,
                    formats=self._runtimes,
                    busy=self._going,
                    now=self._monotonic(),
                )
                for step in steps:
                    self._going[step.model] = going = Going(step)
                    group.create_task(self._take(going), name=f"model {step.model}")
                self._changed.set()
                await self._pause()

    async def _pause(self) -> None:
        if not self._going and is_settled(self._desired, self._observed, self._rests, formats=self._runtimes):
            self._reached = self._desired.generation if self._desired is not None else self._reached
            await self._persist()
            self._changed.set()
        due = self._rests.next_due(self._monotonic())
        wait_s = _LOOK_AGAIN_S if due is None else max(0.0, due - self._monotonic())
        try:
            async with asyncio.timeout(min(wait_s, _LOOK_AGAIN_S)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _take(self, going: Going) -> None:
        """One step of one model, to its end; nothing that goes wrong in it concerns the others."""
        step = going.step
        try:
            await self._do(going)
        except InstallError as error:
            await self._refuse(step, str(error))
        except Interrupted as error:
            if not going.stopped:
                self._rest(step, str(error), _cause_of(error))
        except OSError as error:
            self._rest(step, f"{step.model}: {error}", Cause.DEVICE)
        except Exception as error:  # noqa: BLE001 - the outermost frame of one model's task
            _LOG.exception("%s failed", describe(step))
            self._rest(step, f"{type(error).__name__}: {error}", Cause.DEVICE)
        else:
            self._rests.forget(step.model)
            self._backoffs.pop(step.model, None)
        finally:
            del self._going[step.model]
            self._wake.set()  # and reported once the disk has been looked at

    async def _do(self, going: Going) -> None:
        match going.step:
            case Install() as step:
                await self._installer.bring(going, step, progressed=self._changed.set)
                await self._note("activated", step, flavor=step.flavor.name)
            case Stage() as step:
                await self._installer.bring(going, step, progressed=self._changed.set)
                await self._note("candidate", step, flavor=step.flavor.name, mode=step.mode.value)
            case DropCandidate() as step:
                await asyncio.to_thread(self._store.drop_candidate, step.model)
                await self._note("candidate_dropped", step)
            case Remove() as step:
                await asyncio.to_thread(self._store.remove, step.model)
                await self._note("removed", step)

    async def _refuse(self, step: Step, reason: str) -> None:
        """Remember that this flavor can't serve here under this release."""
        if not isinstance(step, Install | Stage):
            self._rest(step, reason, Cause.DEVICE)
            return
        _LOG.error("%s is refused: %s", describe(step), reason)
        try:
            await asyncio.to_thread(
                self._store.refuse, step.model, step.version, step.flavor.digest, step.release, reason
            )
        except (Interrupted, OSError) as error:
            self._rest(step, f"{reason} ({error})", Cause.DEVICE)
        await asyncio.to_thread(self._record, _event("refused", step, flavor=step.flavor.name, error=reason))

    def _rest(self, step: Step, reason: str, cause: Cause) -> None:
        if cause is Cause.OWNER:
            wait_s = _ASK_OWNER_AGAIN_S
        else:
            wait_s = self._backoffs.setdefault(step.model, Backoff(self._limits, rng=self._rng)).next_wait_s()
            _LOG.warning("%s waits %.1f s: %s", step.model, wait_s, reason)
        version = step.version if isinstance(step, Install | Stage) else 0
        until = self._monotonic() + wait_s
        self._rests.add(step.model, Rest(until=until, reason=reason, cause=cause, version=version))

    async def _note(self, kind: str, step: Step, **detail: str) -> None:
        """Tell those who serve, and the coordinator, what has changed."""
        _LOG.info("%s: %s", kind, describe(step))
        await self._activated()
        await asyncio.to_thread(self._record, _event(kind, step, **detail))

    def _observe(self) -> Observed:
        on_disk = self._store.on_disk()
        desired = [model.model for model in self._desired.models] if self._desired is not None else []
        models = {*on_disk, *desired}
        candidates = {model: self._store.candidate(model) for model in on_disk}
        return Observed(
            installed=self._store.installed(),
            candidates={model: candidate for model, candidate in candidates.items() if candidate is not None},
            refusals={model: self._store.refusals(model) for model in models},
            on_disk=on_disk,
        )

    async def _collect(self) -> None:
        """Once for each desired state: what it has no use for gives its room back."""
        if self._is_collected or self._desired is None:
            return
        self._is_collected = True
        try:
            freed = await asyncio.to_thread(self._store.collect, wanted_versions(self._desired))
        except OSError as error:
            _LOG.warning("what is no longer wanted could not be removed: %s", error)
            return
        if freed:
            _LOG.info("%d bytes of what is no longer wanted were given back", freed)

    async def _persist(self) -> None:
        current = StoredDesired(desired=self._desired, reached=self._reached)
        if current == self._persisted:
            return
        try:
            await asyncio.to_thread(self._memory.persist, current)
        except OSError as error:
            # What serves goes on serving, and the coordinator says it again after a restart.
            _LOG.warning("the desired state could not be persisted: %s", error)
        self._persisted = current


def wanted_versions(desired: DesiredState) -> set[tuple[str, int]]:
    """Each version that should run, candidates included."""
    return {(model.model, version) for model in desired.models for version in _versions(model)}


def _versions(model: DesiredModel) -> list[int]:
    return [model.version] if model.candidate is None else [model.version, model.candidate.version]


def _cause_of(error: Interrupted) -> Cause:
    match error:
        case NotAllowed():
            return Cause.OWNER
        case DiskFull():
            return Cause.DEVICE
        case _:
            return Cause.NETWORK


def _event(kind: str, step: Step, **detail: str) -> DeviceEvent:
    facts = {"model": step.model, **detail}
    if isinstance(step, Install | Stage):
        facts |= {"version": str(step.version), "release": str(step.release)}
    return DeviceEvent(kind=kind, detail=facts)
