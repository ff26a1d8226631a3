"""What went wrong with installations, and until when not to try again. Pure: time is a number that is given.

A refusal is for one flavor of one version, and lasts until a new generation. A
rest is for a model, and ends by itself or when the link comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.protocol.model import Flavor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """`until` is of the monotonic clock; `needs_link` says that the network is what was missing."""

    until: float
    error: str
    needs_link: bool


class Failures:
    """The memory of one reconciler."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[str, int, str], str] = {}
        self._rests: dict[str, Rest] = {}

    def refuse(self, model: str, version: int, flavor: Flavor, error: str) -> None:
        """This flavor can't serve here."""
        self._refusals[model, version, flavor.digest] = error

    def refusal(self, model: str, version: int, flavor: Flavor) -> str | None:
        """Why this flavor can't serve here; None where that is not known."""
        return self._refusals.get((model, version, flavor.digest))

    def rest(self, model: str, rest: Rest) -> None:
        """Leave this model alone for a while."""
        self._rests[model] = rest

    def rest_of(self, model: str) -> Rest | None:
        """The last rest of this model, over or not."""
        return self._rests.get(model)

    def is_resting(self, model: str, now: float) -> bool:
        """Whether this model's turn has not come yet."""
        rest = self._rests.get(model)
        return rest is not None and now < rest.until

    def next_due(self, now: float) -> float | None:
        """When the next of the rests that are not over ends."""
        return min((rest.until for rest in self._rests.values() if rest.until > now), default=None)

    def forget_rest(self, model: str) -> None:
        """This model has succeeded, or is gone."""
        self._rests.pop(model, None)

    def forget_interruptions(self) -> None:
        """The link is back: what waited for it is due."""
        self._rests = {model: rest for model, rest in self._rests.items() if not rest.needs_link}

    def forget_refusals(self) -> None:
        """A new generation: everything deserves another try."""
        self._refusals.clear()
