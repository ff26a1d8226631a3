"""A real agent process over many updates: killed at any time, and with a clock that is wrong by years.

Version n computes y = n * x, so each answer says which version gave it.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward_agent.serving import Agent
from tests.agent.enrolled import enroll_device
from tests.agent.processes import agent_process, serves
from tests.agent.samples import X, scale_model
from tests.agent.simulator import SimulatedCoordinator
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_YEAR_S = 365 * 86400


@pytest.fixture
def coordinator() -> Iterator[SimulatedCoordinator]:
    """On a thread of its own."""
    with SimulatedCoordinator().in_thread() as running:
        yield running


@pytest.fixture
def state(coordinator: SimulatedCoordinator, tmp_path: Path) -> Path:
    """Of an enrolled device."""
    asyncio.run(enroll_device(coordinator, tmp_path / "state"))
    return tmp_path / "state"


def answering(state: Path) -> float:
    """The version that answers in a process that opens the state directory now."""
    with Agent(state, record=False) as agent:
        ratio = agent.predict("scale", X)["y"].ravel()[1:] / X.ravel()[1:]
    assert np.ptp(ratio) < 1e-6
    return float(ratio[0])


@pytest.mark.parametrize("updates", [12, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_an_agent_killed_at_any_time_leaves_a_working_model(
    coordinator: SimulatedCoordinator, state: Path, tmp_path: Path, updates: int
) -> None:
    """One of the versions that were signed answers after each kill, and in the end the one that is desired."""
    rng = Random(7)
    versions = [scale_model(coordinator, tmp_path, version=number, factor=float(number)) for number in (1, 2, 3)]
    coordinator.deploy(versions[0])
    with agent_process(state):
        wait_until(lambda: serves(coordinator, 1))
    for update in range(1, updates + 1):
        coordinator.deploy(versions[update % 3])
        with agent_process(state) as process:
            # From before it is up to after it is done.
            time.sleep(rng.uniform(0.2, 2.0))
            process.kill()
            process.wait(30)
        assert answering(state) in {1.0, 2.0, 3.0}
    last = versions[updates % 3].version
    coordinator.reported.clear()
    with agent_process(state):
        wait_until(lambda: serves(coordinator, last))
    assert answering(state) == float(last)


def test_a_clock_that_is_behind_stops_nothing(coordinator: SimulatedCoordinator, state: Path, tmp_path: Path) -> None:
    """A device without a battery boots in the past; what is signed still comes."""
    coordinator.deploy(scale_model(coordinator, tmp_path, version=1, factor=1.0))
    with agent_process(state, clock_off_by_s=-30 * _YEAR_S):
        wait_until(lambda: serves(coordinator, 1))
    assert answering(state) == 1.0


def test_a_clock_that_is_ahead_stops_updates_and_nothing_else(
    coordinator: SimulatedCoordinator, state: Path, tmp_path: Path
) -> None:
    """The error names the clock, the model serves on, and once the clock is right the update comes."""
    coordinator.deploy(scale_model(coordinator, tmp_path, version=1, factor=1.0))
    with agent_process(state):
        wait_until(lambda: serves(coordinator, 1))
    coordinator.deploy(scale_model(coordinator, tmp_path, version=2, factor=2.0))
    with agent_process(state, clock_off_by_s=30 * _YEAR_S):
        wait_until(lambda: "by this device's clock" in _errors(coordinator))
        assert answering(state) == 1.0
    with agent_process(state):
        wait_until(lambda: serves(coordinator, 2))
    assert answering(state) == 2.0


def _errors(coordinator: SimulatedCoordinator) -> str:
    return " ".join(model.error for state in coordinator.reported.values() for model in state.models)
