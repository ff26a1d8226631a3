"""Whether the figures of the demo of rollouts keep its promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeward_server.demo.rollout_verdict import (
    DeviceTraffic,
    RolloutFigures,
    accuracy_of,
    broken_promises,
    rollouts_figures_sheet,
    served_by,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = RolloutFigures(version=2, what="good", state="succeeded", took_s=20.0, bytes_received=20_000, file_bytes=100_000)
BAD = RolloutFigures(version=3, what="bad", state="rolled_back", took_s=6.0, bytes_received=9_000, file_bytes=100_000)
CANARY = DeviceTraffic(device="a", requests=60, dropped=0, answered={1: 80, 2: 80, 3: 80}, right={1: 60, 2: 72, 3: 4})
OTHER = DeviceTraffic(device="b", requests=40, dropped=0, answered={1: 80, 2: 80}, right={1: 60, 2: 72})


def problems(
    *,
    good: RolloutFigures = GOOD,
    bad: RolloutFigures = BAD,
    traffic: Sequence[DeviceTraffic] = (CANARY, OTHER),
    in_the_end: dict[str, int] | None = None,
) -> list[str]:
    serving = in_the_end if in_the_end is not None else {"a": 2, "b": 2}
    return broken_promises(good=good, bad=bad, traffic=traffic, serving_at_end=serving, canaries=1)


def test_good_figures_break_nothing() -> None:
    """All promises kept."""
    assert problems() == []


def test_who_served_a_version_is_who_answered_with_it() -> None:
    """As the users counted."""
    assert served_by(3, [CANARY, OTHER]) == ["a"]
    assert accuracy_of(2, [CANARY, OTHER]) == 0.9
    assert accuracy_of(9, [CANARY, OTHER]) is None


def test_the_table_sets_what_was_received_beside_whole_files() -> None:
    """And says on how much of the fleet each version ever served."""
    rows = [tuple(row) for row in rollouts_figures_sheet([GOOD, BAD], [CANARY, OTHER]).rows]
    assert rows[0][4:] == ("2 of 2 (100.0 %)", "90.0 %", "19.5 KiB", "195.3 KiB")
    assert rows[1][4:] == ("1 of 2 (50.0 %)", "5.0 %", "8.8 KiB", "97.7 KiB")


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (problems(good=replace(GOOD, state="rolled_back")), "good version's rollout"),
        (problems(bad=replace(BAD, state="succeeded")), "bad version's rollout"),
        (problems(traffic=[CANARY, replace(OTHER, answered={1: 80, 2: 1, 3: 1})]), "served on 2 devices"),
        (problems(traffic=[replace(CANARY, answered={2: 8}), OTHER]), "served on 0 devices"),
        (problems(traffic=[CANARY, replace(OTHER, answered={1: 80})]), "1 devices never served"),
        (problems(traffic=[CANARY, replace(OTHER, dropped=1)]), "b left 1 of 40"),
        (problems(traffic=[CANARY, replace(OTHER, requests=0)]), "nobody asked b"),
        (problems(in_the_end={"a": 3, "b": 2}), "on a"),
        (problems(in_the_end={"a": 2}), "1 of 2 devices"),
        (problems(good=replace(GOOD, bytes_received=300_000)), "no fewer bytes"),
    ],
    ids=[
        "good stopped",
        "bad went out",
        "bad spread",
        "bad never tried",
        "good incomplete",
        "dropped",
        "idle",
        "not returned",
        "gone",
        "whole files",
    ],
)
def test_each_broken_promise_is_found(found: list[str], problem: str) -> None:
    """A figure that does not hold is said in a sentence."""
    assert any(problem in sentence for sentence in found), found
