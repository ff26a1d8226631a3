"""What `get_node_ids` answers, and how long it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.aggregation.serverapp_population import MAX_WAIT_S, DevicesMissing, PopulationSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward_coordinator.aggregation.control import ControlLine


class ScriptedChannel:
    """A `Channel` to a fleet whose population follows a script; waiting moves its clock and nothing else."""

    def __init__(self, *populations: list[str]) -> None:
        self._populations = list(populations)
        self.now_s = 0.0
        self.told: list[ControlLine] = []

    def population(self) -> list[str]:
        """The next of the script; the last stays."""
        return self._populations.pop(0) if len(self._populations) > 1 else self._populations[0]

    def tell(self, line: ControlLine) -> None:
        """Kept."""
        self.told.append(line)

    def wait(self, is_done: Callable[[], bool], *, within_s: float | None = None) -> bool:
        """Time goes by."""
        self.now_s += within_s or 0.0
        return is_done()


def _source(channel: ScriptedChannel, *, min_devices: int = 1) -> PopulationSource:
    return PopulationSource(channel, min_devices=min_devices, clock=lambda: channel.now_s)


def test_first_answer_waits_for_enough_devices() -> None:
    """A call never begins with fewer than the run wants; what it waits for is said, when it changes."""
    channel = ScriptedChannel([], [], ["a"], ["b", "a"])
    assert _source(channel, min_devices=2).answer(None) == ["a", "b"]
    assert [getattr(line, "text", "") for line in channel.told] == [
        "waiting for devices: 0 online",
        "waiting for devices: 1 online",
    ]


def test_second_answer_does_not_wait() -> None:
    """A strategy asks how many there are, then which."""
    channel = ScriptedChannel(["a"])
    source = _source(channel)
    assert source.answer(None) == source.answer(None) == ["a"]
    assert channel.now_s == 0


def test_later_answers_wait_for_a_change_ever_longer() -> None:
    """A strategy that asks in a loop since devices are too few does not spin, and hears of a change at once."""
    channel = ScriptedChannel(["a"])
    source = _source(channel)
    waited = []
    for _ in range(12):
        before = channel.now_s
        source.answer(None)
        waited.append(channel.now_s - before)
    assert waited[:2] == [0, 0]
    assert waited == sorted(waited)
    assert 10 < waited[-1] < 20


def test_answers_are_taken_with_the_call() -> None:
    """Only changes are kept, with the number of the question; a call starts anew."""
    source = _source(ScriptedChannel(["a"], ["a"], ["a", "b"]))
    for _ in range(3):
        source.answer(None)
    assert source.take_answers() == [(1, ["a"]), (3, ["a", "b"])]
    source.answer(None)
    assert source.take_answers() == [(1, ["a", "b"])]
    assert source.known == {"a", "b"}


def test_recorded_answers_come_again() -> None:
    """On replay each question gets the answer it got, whoever is online now."""
    channel = ScriptedChannel(["z"])
    source = _source(channel, min_devices=5)
    recorded = [(1, ["a"]), (3, ["a", "b"])]
    assert [source.answer(recorded) for _ in range(4)] == [["a"], ["a"], ["a", "b"], ["a", "b"]]
    assert source.take_answers() == recorded
    assert channel.now_s == 0


def test_devices_that_never_come_end_the_run() -> None:
    """After a day of waiting the app is told so."""
    channel = ScriptedChannel([])
    with pytest.raises(DevicesMissing, match="only 0 devices"):
        _source(channel).answer(None)
    assert channel.now_s >= MAX_WAIT_S
