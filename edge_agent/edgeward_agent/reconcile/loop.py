"""The loop that makes what runs what should run: level-triggered, one step at a time, for ever.

It wakes on a new desired state, when the link comes back, when a rest ends, and
from time to time; what it does next follows from what is, never from what
happened. A model that fails rests or is refused, and the others have their turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeward.protocol.state import ModelState
from edgeward.protocol.telemetry import DeviceEvent
from edgeward_agent.artifacts import DiskFull, FetchInterrupted, InstallError
from edgeward_agent.backoff import Backoff
from edgeward_agent.reconcile.decision import Install, Nothing, Remove, is_settled, next_step
from edgeward_agent.reconcile.desired_store import StoredDesired
from edgeward_agent.reconcile.failures import Failures, Rest
from edgeward_agent.reconcile.report import Busy, describe_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from pathlib import Path
    from random import Random

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.state import DesiredState, ReportedState, RuntimeInfo
    from edgeward_agent.artifacts import ActiveModel, Check, Fetch
    from edgeward_agent.backoff import BackoffLimits
    from edgeward_agent.reconcile.desired_store import DesiredStore

_LOG = logging.getLogger(__name__)

# Somebody may have changed the disk; looking is cheap.
_LOOK_AGAIN_S = 300.0


class ModelStore(Protocol):
    """What the loop needs of `SlotStore`."""

    def installed(self) -> dict[str, ActiveModel]:
        """What serves, by model."""

    def on_disk(self) -> list[str]:
        """The models that take room, those included of which nothing serves."""

    async def install(self, model: str, version: int, flavor: Flavor, *, fetch: Fetch, check: Check) -> ActiveModel:
        """Download, verify, test, activate; safe to repeat."""

    def remove(self, model: str) -> None:
        """Stop serving a model and free its space."""


@dataclass(slots=True, kw_only=True)
class _Going:
    """The installation that is going on."""

    step: Install
    state: ModelState = ModelState.FETCHING
    is_overtaken: bool = False


class Reconciler:
    """One device's loop. Event loop only, but for what it gives to threads itself."""

    def __init__(
        self,
        store: ModelStore,
        memory: DesiredStore,
        *,
        fetch: Fetch,
        check: Check,
        runtimes: Mapping[Format, RuntimeInfo],
        backoff: BackoffLimits,
        rng: Random,
        monotonic: Callable[[], float],
        record: Callable[[DeviceEvent], None],
        activated: Callable[[], None],
    ) -> None:
        """Wire it.

        Args:
            store: Where models are.
            memory: Where the desired state is kept.
            fetch: The bytes of an artifact.
            check: The test that a model must pass on this device.
            runtimes: The runtime for each format that this device may run.
            backoff: Of attempts at one model.
            rng: For the jitter.
            monotonic: Seconds of a clock that is never set.
            record: Takes note of what happened to a model, in a thread.
            activated: Called in a thread after a model was activated or removed.
        """
        self._store = store
        self._memory = memory
        self._fetch = fetch
        self._check = check
        self._runtimes = runtimes
        self._limits = backoff
        self._rng = rng
        self._monotonic = monotonic
        self._record = record
        self._activated = activated
        self._failures = Failures()
        self._backoffs: dict[str, Backoff] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._said: ReportedState | None = None
        self._going: _Going | None = None
        self._installed: dict[str, ActiveModel] = store.installed()
        stored = memory.load()
        self._desired, self._reached, self._persisted = stored.desired, stored.reached, stored

    def set_desired(self, desired: DesiredState) -> None:
        """This should run. An installation that is no longer wanted stops."""
        if desired == self._desired:
            return
        if self._desired is not None and desired.generation < self._desired.generation:
            _LOG.warning("generation %d follows %d", desired.generation, self._desired.generation)
        self._desired = desired
        self._failures.forget_refusals()
        going = self._going
        wanted = {(model.model, model.version) for model in desired.models}
        if going is not None and (going.step.model, going.step.version) not in wanted:
            going.is_overtaken = True
        self._wake.set()
        self._changed.set()

    def link_up(self) -> None:
        """What waited for the network is due."""
        self._failures.forget_interruptions()
        self._wake.set()

    def say(self) -> ReportedState:
        """The reported state as of now; `next_report` waits for another one."""
        self._said = describe_state(
            self._desired,
            self._installed,
            self._failures,
            runtimes=self._runtimes,
            busy=Busy(model=self._going.step.model, state=self._going.state) if self._going else None,
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
        while True:
            self._wake.clear()
            await self._persist()
            self._installed = await asyncio.to_thread(self._store.installed)
            on_disk = await asyncio.to_thread(self._store.on_disk)
            step = next_step(
                self._desired,
                self._installed,
                self._failures,
                on_disk=on_disk,
                formats=self._runtimes,
                now=self._monotonic(),
            )
            match step:
                case Install():
                    await self._install(step)
                case Remove(model=model):
                    await self._remove(model)
                case Nothing():
                    await self._pause(on_disk)
            self._changed.set()

    async def _pause(self, on_disk: Collection[str]) -> None:
        if is_settled(self._desired, self._installed, self._failures, on_disk=on_disk, formats=self._runtimes):
            self._reached = self._desired.generation if self._desired is not None else self._reached
            await self._persist()
        self._changed.set()
        due = self._failures.next_due(self._monotonic())
        wait_s = _LOOK_AGAIN_S if due is None else max(0.0, due - self._monotonic())
        try:
            async with asyncio.timeout(min(wait_s, _LOOK_AGAIN_S)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _install(self, step: Install) -> None:
        model, version, flavor = step.model, step.version, step.flavor
        _LOG.info("installing %s %d as %s (%d bytes)", model, version, flavor.name, flavor.total_bytes)
        self._going = going = _Going(step=step)
        self._changed.set()
        try:
            await self._store.install(model, version, flavor, fetch=self._fetch_while_wanted, check=self._checking)
        except InstallError as error:
            _LOG.error("%s %d as %s is refused: %s", model, version, flavor.name, error)
            self._failures.refuse(model, version, flavor, str(error))
            await self._note("refused", step, error=str(error))
        except FetchInterrupted as error:
            if not going.is_overtaken:
                self._rest(model, str(error), needs_link=not isinstance(error, DiskFull))
        except Exception as error:  # noqa: BLE001 - the outermost frame of one model's installation
            _LOG.exception("installing %s %d failed", model, version)
            self._rest(model, f"{type(error).__name__}: {error}", needs_link=False)
        else:
            self._failures.forget_rest(model)
            self._backoffs.pop(model, None)
            _LOG.info("%s %d serves as %s", model, version, flavor.name)
            await asyncio.to_thread(self._activated)
            await self._note("activated", step)
        finally:
            self._going = None

    async def _fetch_while_wanted(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """Stop between two pieces where the version is not wanted any more.

        Cancelling the installation instead could leave a thread of it at work in the slot.
        """
        pieces = self._fetch(digest, offset)
        async with AsyncExitStack() as stack:
            if isinstance(pieces, AsyncGenerator):
                stack.push_async_callback(pieces.aclose)
            async for piece in pieces:
                if self._going is not None and self._going.is_overtaken:
                    _LOG.info("%s %d is no longer wanted", self._going.step.model, self._going.step.version)
                    raise FetchInterrupted("another version is wanted by now")
                yield piece

    async def _checking(self, path: Path, flavor: Flavor, golden: GoldenSet | None) -> None:
        if self._going is not None:
            self._going.state = ModelState.CHECKING
            self._changed.set()
        await self._check(path, flavor, golden)

    async def _remove(self, model: str) -> None:
        try:
            await asyncio.to_thread(self._store.remove, model)
        except OSError as error:
            self._rest(model, f"{model} could not be removed: {error}", needs_link=False)
            return
        self._failures.forget_rest(model)
        _LOG.info("%s is no longer desired and was removed", model)
        await asyncio.to_thread(self._activated)
        await asyncio.to_thread(self._record, DeviceEvent(kind="removed", detail={"model": model}))

    def _rest(self, model: str, error: str, *, needs_link: bool) -> None:
        backoff = self._backoffs.setdefault(model, Backoff(self._limits, rng=self._rng))
        wait_s = backoff.next_wait_s()
        _LOG.warning("%s waits %.1f s: %s", model, wait_s, error)
        self._failures.rest(model, Rest(until=self._monotonic() + wait_s, error=error, needs_link=needs_link))

    async def _note(self, kind: str, step: Install, **detail: str) -> None:
        facts = {"model": step.model, "version": str(step.version), "flavor": step.flavor.name, **detail}
        await asyncio.to_thread(self._record, DeviceEvent(kind=kind, detail=facts))

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
