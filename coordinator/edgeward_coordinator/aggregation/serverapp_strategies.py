"""Watches the app's `Strategy.start`: which strategy runs now, and the Result that it returns.

An ordinary app calls `strategy.start(grid, …)` and keeps the Result to itself.
The method is wrapped where it is defined (Flower's base class, and each
subclass with a `start` of its own), so neither the app nor Flower is changed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.serverapp.strategy import Result

_MARK = "_edgeward_watched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the strategy that runs now needs of replies.

    `averages`: it is of Flower's averaging family, which raises or is poisoned
    when replies differ in form. `is_own`: the app has overridden the
    aggregation, so what it needs can only be guessed from what most replies do.
    """

    averages: bool = False
    is_own: bool = True
    weight_key: str = "num-examples"


class StrategyWatch:
    """Sees every start of a strategy in this process.

    Args:
        on_result: Called with the Result of each start, nested ones excepted.
    """

    def __init__(self, *, on_result: Callable[[Result], None]) -> None:
        self._on_result = on_result
        self._running: list[Strategy] = []

    def install(self) -> None:
        """Watch all strategies that exist, and each that is defined after."""
        self._watch_class(Strategy)
        watch = self._watch_class

        def init_subclass(cls: type[Strategy], /, **kwargs: Any) -> None:  # noqa: ANN401
            super(Strategy, cls).__init_subclass__(**kwargs)
            watch(cls)

        Strategy.__init_subclass__ = classmethod(init_subclass)

    def expectations(self) -> Expectations:
        """What the strategy that runs now needs; nothing where the app talks to the grid itself."""
        if not self._running:
            return Expectations()
        strategy = getattr(self._running[-1], "strategy", self._running[-1])  # the one inside a DP wrapper
        averages = isinstance(strategy, FedAvg) and not isinstance(strategy, FedXgbBagging | FedXgbCyclic)
        methods = (type(strategy).aggregate_train, type(strategy).aggregate_evaluate)
        return Expectations(
            averages=averages,
            is_own=any(not method.__module__.startswith("flwr.") for method in methods),
            weight_key=getattr(strategy, "weighted_by_key", "num-examples"),
        )

    def _watch_class(self, cls: type[Strategy]) -> None:
        start = cls.__dict__.get("start")
        if start is not None and not hasattr(start, _MARK):
            cls.start = self._watched(start)
        for subclass in cls.__subclasses__():
            self._watch_class(subclass)

    def _watched(self, start: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(start)
        def watched(strategy: Strategy, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401
            self._running.append(strategy)
            try:
                result = start(strategy, *args, **kwargs)
            finally:
                self._running.pop()
            if not self._running:
                self._on_result(result)
            return result

        setattr(watched, _MARK, True)
        return watched
