"""The app's strategies, watched without their knowing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import flower_messages as flower

with warnings.catch_warnings():  # Flower's own imports warn
    warnings.simplefilter("ignore")
    from flwr.serverapp.strategy import (
        DifferentialPrivacyClientSideFixedClipping,
        FedAdam,
        FedAvg,
        FedXgbBagging,
        Krum,
        Strategy,
    )

    from edgeward_coordinator.aggregation.serverapp_strategies import Expectations, StrategyWatch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Seen:
    """What a watch saw: the Results, and what it expected while the newest strategy ran."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.expectations: list[Expectations] = []
        self.watch = StrategyWatch(on_result=self.results.append)

    def during(self, strategy: Any) -> Expectations:
        """What is expected while `strategy` runs."""
        start(strategy, evaluate_fn=lambda _number, _arrays: self.expectations.append(self.watch.expectations()))
        return self.expectations[-1]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """A watch that is installed, and taken away again."""
    started = Strategy.start
    seen = Seen()
    seen.watch.install()
    yield seen
    Strategy.start = started
    del Strategy.__init_subclass__


def start(strategy: Any, **arguments: Any) -> Any:
    """Start a strategy that has nothing to do."""
    arrays = flower.arrays(w=np.zeros(1))
    return strategy.start(grid=None, initial_arrays=arrays, num_rounds=0, **arguments)


def test_result_is_seen(seen: Seen) -> None:
    """The Result that the app gets is the one that is seen."""
    result = start(FedAvg())
    assert [one is result for one in seen.results] == [True]


def test_start_of_a_subclass_is_seen_once(seen: Seen) -> None:
    """A strategy with a start of its own, defined after, is seen with what it returns, not with what it calls."""

    class Own(FedAvg):  # type: ignore[misc]
        def start(self, *args: Any, **kwargs: Any) -> Any:
            inner = super().start(*args, **kwargs)
            return type(inner)(arrays=flower.arrays(own=np.ones(1)))

    result = start(Own())
    assert [one is result for one in seen.results] == [True]
    assert list(seen.results[0].arrays) == ["own"]


def test_start_that_raises_leaves_nothing_behind(seen: Seen) -> None:
    """After a strategy that failed nothing is expected of replies."""

    def fail(_number: int, _arrays: Any) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        start(FedAvg(), evaluate_fn=fail)
    assert seen.results == []
    assert seen.watch.expectations() == Expectations()


@pytest.mark.parametrize("strategy", [FedAvg, FedAdam, Krum], ids=lambda kind: kind.__name__)
def test_flower_s_strategies_average(seen: Seen, strategy: Any) -> None:
    """Flower's own need replies of one form."""
    expected = seen.during(strategy(weighted_by_key="examples"))
    assert expected == Expectations(averages=True, is_own=False, weight_key="examples")


def test_wrapped_strategy_is_what_counts(seen: Seen) -> None:
    """Around a strategy with differential privacy the inner one says what is needed."""
    wrapped = DifferentialPrivacyClientSideFixedClipping(FedAvg(weighted_by_key="n"), 1.0, 1.0, 2)
    assert seen.during(wrapped).weight_key == "n"


def test_trees_are_no_averages(seen: Seen) -> None:
    """Bagged trees grow, so their shapes must not be compared."""
    assert not seen.during(FedXgbBagging()).averages


def test_overridden_aggregation_is_the_app_s_own(seen: Seen) -> None:
    """An app that overrides the aggregation may mean what others would not."""

    class Own(FedAvg):  # type: ignore[misc]
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return super().aggregate_train(server_round, replies)

    assert seen.during(Own()).is_own
