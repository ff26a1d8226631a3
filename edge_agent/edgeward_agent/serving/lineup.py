"""What a process has of one model in memory: the version that serves and, beside it, a candidate.

Both are loaded and warm before the first request meets them. What is still the
same artifact in the same slot is taken over from the lineup before: a probation
that ends well costs no load.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeward_agent.artifacts import pointer_stamp, read_active, resolve_active, resolve_candidate
from edgeward_agent.serving.errors import ServingError
from edgeward_agent.serving.served import Served, at_work, title_of
from edgeward_agent.telemetry import Subject, open_trial
from edgeward_compression.runtimes import LoadError, RuntimeMissing, load_model

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from edgeward.protocol.model import Format
    from edgeward.protocol.state import CandidateMode
    from edgeward_agent.artifacts import ActiveModel, PointerStamp
    from edgeward_agent.telemetry import TrialFile
    from edgeward_compression.runtimes import LoadedModel

_LOG = logging.getLogger(__name__)

# Activations that may come in the middle of a load before it is given up.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A candidate in memory; `share` of the requests where it serves them."""

    served: Served
    mode: CandidateMode
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """`stamp` is that of the pointer under which it was loaded."""

    served: Served
    candidate: Beside | None
    stamp: PointerStamp | None

    def all(self) -> list[Served]:
        """The version that serves, then the candidate."""
        return [self.served] if self.candidate is None else [self.served, self.candidate.served]


class Loader:
    """Makes lineups.

    Args:
        models: The folder of the models.
        runtimes: The runtime for a format, where it should not be the best one that is installed.
        formats: Those that may be loaded; None: all that have a runtime.
        trials: Where what is seen of versions on trial is kept; None: nowhere.
    """

    def __init__(
        self,
        models: Path,
        *,
        runtimes: Mapping[Format, str],
        formats: Collection[Format] | None,
        trials: Path | None,
    ) -> None:
        self._models = models
        self._formats = formats
        self._runtimes = runtimes
        self._trials = trials

    def load(self, model: str, before: Lineup | None = None) -> Lineup | None:
        """Load what serves of a model, and what is its candidate.

        The slots may change hands while a file is being opened; what is returned was in force throughout.

        Args:
            model: Its name.
            before: What this process has of it.

        Returns:
            None where nothing serves.

        Raises:
            ServingError: What serves can't be loaded. A candidate that can't be is left out.
        """
        folder = self._models / model
        for _ in range(_ATTEMPTS):
            stamp = pointer_stamp(folder)
            active = self._resolve(folder, before)
            if active is None:
                return None
            subject = _subject(active, "active") if active.probation is not None else None
            try:
                served = self._take(active, before, subject)
            except LoadError as error:
                if pointer_stamp(folder) != stamp:
                    continue
                raise ServingError(f"{title_of(active)} can't be loaded: {error}") from error
            lineup = Lineup(served=served, candidate=self._take_candidate(folder, before), stamp=stamp)
            if pointer_stamp(folder) == stamp:
                return lineup
            discard(lineup, keep=before)
        raise ServingError(f"{model} was activated anew again and again while it was loaded")

    def _resolve(self, folder: Path, before: Lineup | None) -> ActiveModel | None:
        """What serves, its file verified unless this process has it in memory."""
        active = read_active(folder)
        if active is not None and before is not None and _is_same(before.served.active, active):
            return active
        resolved = resolve_active(folder)
        for problem in resolved.problems:
            _LOG.error("%s", problem)
        if resolved.active is None and resolved.problems:
            raise ServingError("; ".join(resolved.problems), hint="it is mended when it is installed again")
        return resolved.active

    def _take_candidate(self, folder: Path, before: Lineup | None) -> Beside | None:
        candidate = resolve_candidate(folder)
        if candidate is None:
            return None
        try:
            served = self._take(candidate.active, before, _subject(candidate.active, "candidate"))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a candidate, the others serve
            _LOG.error("the candidate %s can't be loaded: %s", title_of(candidate.active), error)
            return None
        return Beside(served=served, mode=candidate.mode, share=candidate.share)

    def _take(self, active: ActiveModel, before: Lineup | None, subject: Subject | None) -> Served:
        """From the lineup before, or from the disk; `subject` where it is on trial."""
        for served in before.all() if before is not None else ():
            if _is_same(served.active, active):
                served.active = active
                if served.trial is not None and served.trial.subject != subject:
                    served.end_trial()
                if served.trial is None:
                    served.trial = self._open_trial(active.model, subject)
                return served
        # First the trial, so that a process that dies of the load is counted.
        trial = self._open_trial(active.model, subject)
        try:
            with at_work(trial):
                loaded = self._open(active)
        except BaseException as error:
            _end_failed(trial, active, error)
            raise
        served = Served(active, loaded, trial=trial)
        served.warm()
        return served

    def _open(self, active: ActiveModel) -> LoadedModel:
        if self._formats is not None and active.format not in self._formats:
            raise RuntimeMissing(f"this agent may run {', '.join(self._formats) or 'nothing'}, not {active.format}")
        return load_model(active.path, format=active.format, runtime=self._runtimes.get(active.format))

    def _open_trial(self, model: str, subject: Subject | None) -> TrialFile | None:
        if self._trials is None or subject is None:
            return None
        return open_trial(self._trials / model, subject)


def discard(lineup: Lineup, *, keep: Lineup | None) -> None:
    """Retire what of a lineup is not in another one as well."""
    kept = keep.all() if keep is not None else []
    for served in lineup.all():
        if served not in kept:
            served.retire()


def _subject(active: ActiveModel, role: Literal["active", "candidate"]) -> Subject:
    return Subject(role=role, version=active.version, digest=active.digest, generation=active.generation)


def _is_same(here: ActiveModel, there: ActiveModel) -> bool:
    """Whether it is the same artifact in the same place."""
    return (here.path, here.version, here.flavor, here.digest) == (
        there.path,
        there.version,
        there.flavor,
        there.digest,
    )


def _end_failed(trial: TrialFile | None, active: ActiveModel, error: BaseException) -> None:
    if trial is None:
        return
    if isinstance(error, LoadError) and not isinstance(error, RuntimeMissing):
        trial.fail(f"{title_of(active)} can't be loaded: {error}")
    else:
        # A runtime that this process lacks says nothing of the version.
        trial.close()
