"""The keeper of versions on trial: it reads what all processes saw, judges, and commits or sends back.

It works without a network. What it decides is on the disk before anybody is told,
and the processes that serve follow by themselves. A verdict is on what was judged:
where something else has come in its place meanwhile, it falls on nobody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal, Protocol

from edgeward.protocol.telemetry import DeviceEvent
from edgeward_agent.errors import Interrupted
from edgeward_agent.reconcile.probation import Commit, RollBack, Wait, judge_probation, why_unfit
from edgeward_agent.reconcile.trial_ledger import TrialLedger
from edgeward_agent.telemetry import Subject, read_trials, remove_trials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward_agent.artifacts import ActiveModel, Candidate, Probation
    from edgeward_agent.reconcile.probation import Progress

_LOG = logging.getLogger(__name__)

# Within a second of the error that was one too many.
_LOOK_EVERY_S = 1.0

# A version that ends the agent does so when it is loaded or first used; who lived this long was not ended by it.
_SETTLED_AFTER_S = 300.0


class TrialStore(Protocol):
    """What the keeper needs of `SlotStore`, where each is described."""

    def installed(self) -> dict[str, ActiveModel]: ...  # noqa: D102

    def active(self, model: str) -> ActiveModel | None: ...  # noqa: D102

    def candidate(self, model: str) -> Candidate | None: ...  # noqa: D102

    def settle_start(self, model: str) -> None: ...  # noqa: D102

    def commit(self, model: str) -> None: ...  # noqa: D102

    def roll_back(self, model: str, reason: str) -> ActiveModel | None: ...  # noqa: D102

    def drop_candidate(self, model: str) -> None: ...  # noqa: D102

    def refuse(self, model: str, version: int, digest: Digest, release: int, reason: str) -> None: ...  # noqa: D102


class ProbationKeeper:
    """One device's; `run` on the event loop, the work in a thread.

    Args:
        store: Where models are.
        trials: The folder of what processes saw.
        monotonic: Seconds of a clock that is never set.
        release_of: Under which release a model is desired.
        record: Takes note of what happened to a model, in a thread.
        changed: Awaited after what serves or runs beside has changed.
    """

    def __init__(
        self,
        store: TrialStore,
        trials: Path,
        *,
        monotonic: Callable[[], float],
        release_of: Callable[[str], int],
        record: Callable[[DeviceEvent], None],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._trials = trials
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._release_of = release_of
        self._record = record
        self._changed = changed
        self._ledgers: dict[str, TrialLedger] = {}
        self._has_ended = False
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A version may have come on trial."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wake.clear()
            await self.look()
            try:
                async with asyncio.timeout(_LOOK_EVERY_S if self._ledgers else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Judge everything that is on trial, once."""
        if await asyncio.to_thread(self._look):
            await self._changed()

    def close(self) -> None:
        """Keep what is known for the next start; blocking."""
        for ledger in self._ledgers.values():
            ledger.persist()

    def _look(self) -> bool:
        """Whether a trial has ended."""
        self._has_ended = False
        installed = self._store.installed()
        on_trial: set[str] = set()
        for model, active in installed.items():
            candidate = self._store.candidate(model)
            try:
                if active.probation is not None:
                    on_trial.add(model)
                    self._judge(active, active.probation)
                    if self._monotonic() - self._began_s >= _SETTLED_AFTER_S:
                        self._store.settle_start(model)
                elif candidate is not None:
                    on_trial.add(model)
                    self._judge_candidate(candidate.active)
            except (Interrupted, OSError) as error:
                _LOG.error("the trial of %s goes on: %s", model, error)
        self._sweep(on_trial)
        return self._has_ended

    def _judge(self, active: ActiveModel, probation: Probation) -> None:
        verdict = judge_probation(probation.rules, self._progress(active, "active"))
        if self._store.active(active.model) != active:
            _LOG.debug("%s %d was replaced while it was judged", active.model, active.version)
            return
        match verdict:
            case Wait(why=why):
                _LOG.debug("%s %d stays on probation: %s", active.model, active.version, why)
            case Commit():
                self._store.commit(active.model)
                self._end(active, "committed")
            case RollBack(reason=reason):
                serves = self._store.roll_back(active.model, reason)
                self._end(active, "rolled_back", reason=reason, to_version=str(serves.version if serves else 0))

    def _judge_candidate(self, candidate: ActiveModel) -> None:
        reason = why_unfit(self._progress(candidate, "candidate"))
        if not reason:
            return
        present = self._store.candidate(candidate.model)
        if present is None or present.active != candidate:
            _LOG.debug("the candidate %s %d was replaced while it was judged", candidate.model, candidate.version)
            return
        release = self._release_of(candidate.model)
        self._store.refuse(candidate.model, candidate.version, candidate.digest, release, reason)
        self._store.drop_candidate(candidate.model)
        self._end(candidate, "refused", error=reason)

    def _progress(self, version: ActiveModel, role: Literal["active", "candidate"]) -> Progress:
        now_s = self._monotonic()
        subject = Subject(role=role, version=version.version, digest=version.digest, generation=version.generation)
        ledger = self._ledgers.get(version.model)
        if ledger is None or ledger.subject != subject:
            ledger = TrialLedger(self._trials / version.model, subject, now_s=now_s)
            self._ledgers[version.model] = ledger
        return ledger.look(now_s)

    def _end(self, version: ActiveModel, kind: str, **detail: str) -> None:
        _LOG.info("%s: %s %d (%s)", kind, version.model, version.version, ", ".join(detail.values()) or "in order")
        ledger = self._ledgers.pop(version.model, None)
        if ledger is not None:
            ledger.remove()
        facts = {"model": version.model, "version": str(version.version), "flavor": version.flavor, **detail}
        self._record(DeviceEvent(kind=kind, detail=facts))
        self._has_ended = True

    def _sweep(self, on_trial: set[str]) -> None:
        """Forget trials that ended without a verdict: another version was wanted, the model is gone."""
        for model in set(self._ledgers) - on_trial:
            self._ledgers.pop(model).remove()
        for folder in self._trials.iterdir() if self._trials.is_dir() else ():
            if folder.name not in on_trial:
                gone = [trial.name for trial in read_trials(folder) if not trial.is_running]
                remove_trials(folder, gone)
