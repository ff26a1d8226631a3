"""A loaded model with the count of who is using it, so that a swap closes it after the last and never under one."""

from __future__ import annotations

import logging
from threading import Condition
from typing import TYPE_CHECKING

import numpy as np

from edgeward_agent.artifacts import pointer_stamp, resolve_active
from edgeward_agent.serving.errors import ServingError
from edgeward_compression.runtimes import LoadError, ModelError, RuntimeMissing, load_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.protocol.model import Format, Signature
    from edgeward.protocol.tensors import Array
    from edgeward_agent.artifacts import ActiveModel, PointerStamp
    from edgeward_compression.runtimes import LoadedModel

_LOG = logging.getLogger(__name__)

# Activations that may come in the middle of a load before it is given up.
_ATTEMPTS = 5


class Served:
    """One version of a model in memory. Thread-safe."""

    def __init__(self, active: ActiveModel, loaded: LoadedModel, *, stamp: PointerStamp | None) -> None:
        self.active = active
        self.stamp = stamp
        self._loaded = loaded
        self._users = 0
        self._retired = False
        self._idle = Condition()

    @property
    def signature(self) -> Signature:
        """What the loaded file takes and gives."""
        return self._loaded.signature

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
        return self._loaded.predict(inputs)

    def _close_if_done(self) -> None:
        if self._retired and not self._users:
            self._loaded.close()
            self._idle.notify_all()


def load_served(folder: Path, runtimes: Mapping[Format, str]) -> Served | None:
    """Load what serves from a model's folder, and run it once so that the first caller does not pay for it.

    The slots may change hands while the file is being opened; what is returned was active throughout.

    Returns:
        None where nothing serves.

    Raises:
        ServingError: It can't be loaded.
    """
    for _ in range(_ATTEMPTS):
        stamp = pointer_stamp(folder)
        resolved = resolve_active(folder)
        for problem in resolved.problems:
            _LOG.error("%s", problem)
        active = resolved.active
        if active is None:
            if resolved.problems:
                raise ServingError("; ".join(resolved.problems), hint="it is mended when it is installed again")
            return None
        try:
            loaded = load_model(active.path, format=active.format, runtime=runtimes.get(active.format))
        except RuntimeMissing as error:
            raise ServingError(str(error)) from error
        except LoadError as error:
            if pointer_stamp(folder) != stamp:
                continue
            raise ServingError(f"{_title(active)} can't be loaded: {error}") from error
        if pointer_stamp(folder) == stamp:
            _warm(active, loaded)
            return Served(active, loaded, stamp=stamp)
        loaded.close()
    raise ServingError(f"{folder.name} was activated anew again and again while it was loaded")


def _warm(active: ActiveModel, loaded: LoadedModel) -> None:
    zeros = {
        spec.name: np.zeros([1 if axis is None else axis for axis in spec.shape], spec.dtype)
        for spec in loaded.signature.inputs
    }
    try:
        loaded.predict(zeros)
    except ModelError as error:
        # It has passed its golden set; that it dislikes zeros says nothing.
        _LOG.debug("%s was not warmed: %s", _title(active), error)


def _title(active: ActiveModel) -> str:
    return f"{active.model} version {active.version} ({active.flavor})"
