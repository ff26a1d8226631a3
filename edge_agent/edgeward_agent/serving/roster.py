"""The models that a process has in memory, kept in step with what is active on the device."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import models_on_disk, pointer_stamp, read_active
from edgeward_agent.errors import Misuse
from edgeward_agent.serving.errors import ServingError, UnknownModel
from edgeward_agent.serving.lineup import discard

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_agent.artifacts import PointerStamp
    from edgeward_agent.serving.lineup import Lineup, Loader

_LOG = logging.getLogger(__name__)


class Roster:
    """Thread-safe; a model is loaded at its first use.

    Args:
        models: The folder of the models.
        loader: Makes lineups.
    """

    def __init__(self, models: Path, loader: Loader) -> None:
        self._models = models
        self._loader = loader
        self._lineups: dict[str, Lineup] = {}
        self._failed: dict[str, PointerStamp | None] = {}
        self._loading = Lock()
        self._is_closed = False

    def enter(self, model: str) -> Lineup:
        """What serves, with its active version entered; loaded where this is the first use.

        Raises:
            UnknownModel: Nothing of this name serves here.
            ServingError: It can't be loaded.
            Misuse: The roster is closed.
        """
        while True:
            lineup = self._lineups.get(model) or self._load(model)
            if lineup.served.enter():
                return lineup

    def in_memory(self) -> list[Lineup]:
        """What is loaded now."""
        return list(self._lineups.values())

    def follow(self, *, everything: bool = False) -> None:
        """Bring what is loaded up to date; one whose present activation could not be loaded is not tried again.

        Args:
            everything: Also load what serves and was never asked for, and try again what failed.

        Raises:
            ServingError: One or more could not be loaded; the others are up to date.
        """
        problems: list[str] = []
        models = {*models_on_disk(self._models), *self._lineups} if everything else set(self._lineups)
        with self._loading:
            for model in sorted(models) if not self._is_closed else ():
                try:
                    self._follow(model, again=everything)
                except (ServingError, OSError) as error:
                    problems.append(str(error))
        if problems:
            raise ServingError("; ".join(problems))

    def close(self, within_s: float) -> None:
        """Let running requests end, but no longer than that each, and free the models; twice is once."""
        with self._loading:
            self._is_closed = True
            lineups, self._lineups = self._lineups, {}
        retired = [served for lineup in lineups.values() for served in lineup.all()]
        for served in retired:
            served.retire()
        for served in retired:
            served.wait_idle(within_s)

    def _load(self, model: str) -> Lineup:
        with self._loading:
            if self._is_closed:
                raise Misuse("the agent is closed", hint="open another one")
            lineup = self._lineups.get(model)
            if lineup is None:
                lineup = self._loader.load(model) if model in models_on_disk(self._models) else None
                if lineup is None:
                    raise self._unknown(model)
                self._lineups = {**self._lineups, model: lineup}
            return lineup

    def _follow(self, model: str, *, again: bool) -> None:
        before = self._lineups.get(model)
        stamp = pointer_stamp(self._models / model)
        if before is not None and before.stamp == stamp:
            return
        if not again and model in self._failed and self._failed[model] == stamp:
            return
        try:
            after = self._loader.load(model, before)
        except (ServingError, OSError):
            self._failed[model] = stamp
            raise
        self._failed.pop(model, None)
        self._swap(model, before, after)

    def _swap(self, model: str, before: Lineup | None, after: Lineup | None) -> None:
        others = {name: lineup for name, lineup in self._lineups.items() if name != model}
        self._lineups = others if after is None else {**others, model: after}
        if after is not None:
            _LOG.info("%s", describe(after))
        if before is not None:
            discard(before, keep=after)

    def _unknown(self, model: str) -> UnknownModel:
        known = [name for name in models_on_disk(self._models) if read_active(self._models / name) is not None]
        hint = f"what serves here: {', '.join(known)}" if known else f"no model serves from {self._models.parent} yet"
        return UnknownModel(f"no model {model!r} serves on this device", hint=hint)


def describe(lineup: Lineup) -> str:
    """For the log."""
    if lineup.candidate is None:
        return f"{lineup.served.title} serves"
    return f"{lineup.served.title} serves, beside it {lineup.candidate.served.title} ({lineup.candidate.mode})"
