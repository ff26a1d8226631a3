"""A loaded model with the count of who is using it, so that a swap closes it after the last and never under one."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from threading import Condition
from typing import TYPE_CHECKING

import numpy as np

from edgeward_compression.runtimes import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from edgeward.protocol.model import Signature
    from edgeward.protocol.tensors import Array
    from edgeward_agent.artifacts import ActiveModel
    from edgeward_agent.telemetry import TrialFile
    from edgeward_compression.runtimes import LoadedModel

_LOG = logging.getLogger(__name__)

_NO_TRIAL = nullcontext()


class Served:
    """One version of a model in memory. Thread-safe.

    Args:
        active: What was loaded.
        loaded: The model.
        trial: Where what is seen of it is kept, while it is on trial.
    """

    def __init__(self, active: ActiveModel, loaded: LoadedModel, *, trial: TrialFile | None = None) -> None:
        self.active = active
        self.trial = trial
        self._loaded = loaded
        self._users = 0
        self._retired = False
        self._idle = Condition()

    @property
    def signature(self) -> Signature:
        """What the loaded file takes and gives."""
        return self._loaded.signature

    @property
    def title(self) -> str:
        """Model, version and flavor, for people."""
        return title_of(self.active)

    def enter(self) -> bool:
        """Begin to use it; False where it was retired meanwhile: take its successor."""
        with self._idle:
            if self._retired:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        """End to use it."""
        with self._idle:
            self._users -= 1
            self._close_if_done()

    def retire(self) -> None:
        """Let nobody in any more; the last one out closes it."""
        with self._idle:
            self._retired = True
            self._close_if_done()

    def wait_idle(self, within_s: float) -> None:
        """Wait until nobody uses it, but no longer than that."""
        with self._idle:
            self._idle.wait_for(lambda: not self._users, within_s)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it, between `enter` and `leave`.

        Raises:
            ModelError: The inputs don't fit, or the runtime failed.
        """
        with at_work(self.trial):
            return self._loaded.predict(inputs)

    def warm(self) -> None:
        """Run it once, so that the first caller does not pay for it."""
        zeros = {
            spec.name: np.zeros([1 if axis is None else axis for axis in spec.shape], spec.dtype)
            for spec in self.signature.inputs
        }
        try:
            self.predict(zeros)
        except ModelError as error:
            # It has passed its golden set; that it dislikes zeros says nothing.
            _LOG.debug("%s was not warmed: %s", self.title, error)

    def count(self, *, rows: int, failed: bool) -> None:
        """Count a call in its trial, if it is on one."""
        trial = self.trial
        if trial is not None:
            trial.count(rows=rows, failed=failed)

    def end_trial(self) -> None:
        """It has proven itself, or is gone."""
        trial, self.trial = self.trial, None
        if trial is not None:
            trial.close()

    def _close_if_done(self) -> None:
        if self._retired and not self._users:
            with at_work(self.trial):
                self._loaded.close()
            self.end_trial()
            self._idle.notify_all()


def at_work(trial: TrialFile | None) -> AbstractContextManager[None]:
    """`TrialFile.at_work`, where there is a trial."""
    return _NO_TRIAL if trial is None else trial.at_work()


def title_of(active: ActiveModel) -> str:
    """Model, version and flavor, for people."""
    return f"{active.model} version {active.version} ({active.flavor})"
