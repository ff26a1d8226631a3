"""The progress of one version on trial, added up over processes, restarts and reboots.

    trials/<model>/progress       what was added up, and from which files

Files of processes that are gone are added to it and removed, so that a device
where many short-lived processes predict keeps a handful. The names come with the
sums: after a crash in between, a file that is still there is not counted twice.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeward.durable import write_atomic
from edgeward_agent.reconcile.probation import Progress
from edgeward_agent.telemetry import read_trials, remove_trials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgeward_agent.telemetry import FoundTrial, Subject

_LOG = logging.getLogger(__name__)

_NAME = "progress"

# How much of a trial a crash of the agent may cost: as much as this, or a share of its length.
_PERSIST_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    subject: dict[str, Any]
    progress: Progress
    added: frozenset[str] = frozenset()


class TrialLedger:
    """Of one activation of one model; blocking, one thread at a time.

    Args:
        folder: `trials/<model>`.
        subject: What is on trial.
        now_s: Of a clock that is never set.
    """

    def __init__(self, folder: Path, subject: Subject, *, now_s: float) -> None:
        self._folder = folder
        self.subject = subject
        stored = _load(folder / _NAME)
        if stored is None or stored.subject != asdict(subject):
            stored = _Stored(subject=asdict(subject), progress=Progress())
        self._stored = stored
        self._looked_at_s = self._persisted_at_s = now_s

    def look(self, now_s: float) -> Progress:
        """Read the files; what is known now."""
        passed_s = max(0.0, now_s - self._looked_at_s)
        self._looked_at_s = now_s
        base = self._stored.progress
        self._stored = replace(self._stored, progress=replace(base, elapsed_s=base.elapsed_s + passed_s))
        found = read_trials(self._folder)
        mine = [trial for trial in found if self._is_mine(trial) and trial.name not in self._stored.added]
        if now_s - self._persisted_at_s >= _PERSIST_EVERY_S:
            self._persist(found, [trial for trial in mine if not trial.is_running])
            self._persisted_at_s = now_s
            mine = [trial for trial in mine if trial.name not in self._stored.added]
        return _add(self._stored.progress, mine)

    def persist(self) -> None:
        """Keep what is known; at an orderly end."""
        found = read_trials(self._folder)
        gone = [trial for trial in found if not trial.is_running and self._is_mine(trial)]
        self._persist(found, [trial for trial in gone if trial.name not in self._stored.added])

    def remove(self) -> None:
        """The trial is over."""
        remove_trials(self._folder, [*(trial.name for trial in read_trials(self._folder)), _NAME])

    def _is_mine(self, trial: FoundTrial) -> bool:
        return trial.trial.subject == self.subject

    def _persist(self, found: Iterable[FoundTrial], gone: list[FoundTrial]) -> None:
        others = [trial.name for trial in found if not trial.is_running and not self._is_mine(trial)]
        there = {trial.name for trial in found}
        after = replace(
            self._stored,
            progress=_add(self._stored.progress, gone),
            added=frozenset({*(self._stored.added & there), *(trial.name for trial in gone)}),
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / _NAME, _encode(after))
            self._stored = after
            remove_trials(self._folder, [*after.added, *others])
        except OSError as error:
            _LOG.warning("the progress of a trial in %s can't be kept: %s", self._folder, error)


def _add(progress: Progress, trials: Iterable[FoundTrial]) -> Progress:
    for found in trials:
        progress = replace(
            progress,
            predictions=progress.predictions + found.trial.predictions,
            calls=progress.calls + found.trial.calls,
            errors=progress.errors + found.trial.errors,
            crashes=progress.crashes + found.crashed,
            problem=progress.problem or found.trial.problem,
        )
    return progress


def _encode(stored: _Stored) -> bytes:
    return json.dumps({**asdict(stored), "added": sorted(stored.added)}).encode()


def _load(path: Path) -> _Stored | None:
    """What was persisted; a damaged file counts as none: the trial begins anew."""
    try:
        content = json.loads(path.read_bytes())
        stored = _Stored(
            subject=content["subject"],
            progress=Progress(**content["progress"]),
            added=frozenset(str(name) for name in content["added"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _LOG.warning("the progress of a trial in %s is damaged: %s", path, error)
        return None
    return stored if _is_sound(stored.progress) else None


def _is_sound(progress: Progress) -> bool:
    counts = (progress.predictions, progress.calls, progress.errors, progress.crashes)
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and isinstance(progress.elapsed_s, int | float)
        and math.isfinite(progress.elapsed_s)
        and progress.elapsed_s >= 0
        and isinstance(progress.problem, str)
    )
