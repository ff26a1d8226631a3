"""Until when a model is left alone, and why. Pure: time is a number that is given.

A rest ends by itself. What was refused for good is not here but with the model
on the disk (`edgeward_agent.artifacts.Refusal`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """Who can end a rest sooner."""

    NETWORK = "network"  # the link that comes back
    DEVICE = "device"  # somebody who makes room, or time
    OWNER = "owner"  # the hours and the link that the device's owner allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """`until` is of the monotonic clock, `version` the one that could not be installed."""

    until: float
    reason: str
    cause: Cause
    version: int


class Rests:
    """The memory of one reconciler."""

    def __init__(self) -> None:
        self._rests: dict[str, Rest] = {}

    def add(self, model: str, rest: Rest) -> None:
        """Leave this model alone for a while."""
        self._rests[model] = rest

    def of(self, model: str, version: int) -> Rest | None:
        """The last rest of this version, over or not."""
        rest = self._rests.get(model)
        return rest if rest is not None and rest.version == version else None

    def is_resting(self, model: str, now: float) -> bool:
        """Whether this model's turn has not come yet."""
        rest = self._rests.get(model)
        return rest is not None and now < rest.until

    def next_due(self, now: float) -> float | None:
        """When the next of the rests that are not over ends."""
        return min((rest.until for rest in self._rests.values() if rest.until > now), default=None)

    def forget(self, model: str) -> None:
        """This model has succeeded, is gone, or something else is wanted of it."""
        self._rests.pop(model, None)

    def forget_cause(self, cause: Cause) -> None:
        """What waited for this is due."""
        self._rests = {model: rest for model, rest in self._rests.items() if rest.cause is not cause}
