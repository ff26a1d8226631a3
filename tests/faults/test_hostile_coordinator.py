"""A real agent process whose coordinator is in the wrong hands: always a working model, never one that is not signed.

Version 1 computes y = x, version 2 y = 2 x. Whatever the coordinator tries, each
answer on the device is version 1's; the reason is reported in words; a kill and a
boot change nothing; and once the coordinator is honest, version 2 comes.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.targets import SignedTarget, target_path
from edgeward_agent.config import AgentConfig
from edgeward_agent.daemon import Daemon
from edgeward_agent.link import LinkSettings
from edgeward_agent.serving import Agent
from edgeward_agent.state_dir import StateDir
from tests.agent.enrolled import enroll_device
from tests.agent.processes import agent_process, serves
from tests.agent.samples import X, scale_model
from tests.agent.simulator import SimulatedCoordinator
from tests.agent.trust.repository import SimulatedRepository
from tests.waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from edgeward.protocol.state import DesiredModel


class Witness:
    """Asks the device's model without a pause and notes by which factor it multiplies."""

    def __init__(self, state: Path) -> None:
        self.factors: set[float] = set()
        self._agent = Agent(state, look_every_s=0.02)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join(30)
        self._agent.close()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            ratio = self._agent.predict("scale", X)["y"].ravel()[1:] / X.ravel()[1:]
            self.factors.add(float(np.median(ratio)) if np.ptp(ratio) < 1e-6 else float("nan"))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A coordinator, and the version that it should not bring to the device."""

    coordinator: SimulatedCoordinator
    second: DesiredModel

    @property
    def trust(self) -> SimulatedRepository:
        """What the honest coordinator has signed with."""
        return self.coordinator.trust

    @property
    def target(self) -> SignedTarget:
        """Version 2 as it would be signed."""
        return SignedTarget(model="scale", version=2, flavor=self.second.flavors[0])

    def error(self) -> str:
        """Why the device does not run version 2, as it says."""
        reports = [model for state in self.coordinator.reported.values() for model in state.models]
        assert all(report.version == 1 for report in reports)
        return next((report.error for report in reports if report.wanted_version == 2), "")

    def deploy_unsigned(self, model: DesiredModel | None = None) -> None:
        """Change the desired state, which takes no key."""
        self.coordinator.faults.deploys_unsigned = True
        self.coordinator.deploy(model or self.second)
        self.coordinator.faults.deploys_unsigned = False


@contextmanager
def nothing_signed(stage: Stage) -> Iterator[None]:
    """It has no key of targets at all."""
    stage.deploy_unsigned()
    yield


@contextmanager
def another_desired(stage: Stage) -> Iterator[None]:
    """It has what was signed, and asks for it without its golden set."""
    stage.trust.sign_desired(stage.second)
    flavor = replace(stage.second.flavors[0], golden_digest=None, golden_bytes=0)
    stage.deploy_unsigned(replace(stage.second, flavors=(flavor,)))
    yield


@contextmanager
def tampered_target(stage: Stage) -> Iterator[None]:
    """It sends other bytes."""
    stage.coordinator.faults.damaged.add(stage.second.flavors[0].digest)
    stage.coordinator.deploy(stage.second)
    yield
    stage.coordinator.faults.damaged.clear()


@contextmanager
def longer_target(stage: Stage) -> Iterator[None]:
    """It sends more bytes than were signed."""
    stage.coordinator.faults.longer_by[stage.second.flavors[0].digest] = 1
    stage.coordinator.deploy(stage.second)
    yield
    stage.coordinator.faults.longer_by.clear()


@contextmanager
def endless_target(stage: Stage) -> Iterator[None]:
    """It never stops."""
    stage.coordinator.faults.longer_by[stage.second.flavors[0].digest] = -1
    stage.coordinator.deploy(stage.second)
    yield
    stage.coordinator.faults.longer_by.clear()


@contextmanager
def endless_metadata(stage: Stage) -> Iterator[None]:
    """It never stops, before anything of it could be verified."""
    stage.coordinator.faults.longer_by["timestamp.json"] = -1
    stage.coordinator.deploy(stage.second)
    yield
    stage.coordinator.faults.longer_by.clear()


@contextmanager
def garbage_metadata(stage: Stage) -> Iterator[None]:
    """It sends noise."""
    stage.trust.replaced["timestamp.json"] = b"\xff\x00" * 500
    stage.coordinator.deploy(stage.second)
    yield
    stage.trust.replaced.clear()


@contextmanager
def rolled_back_metadata(stage: Stage) -> Iterator[None]:
    """It offers the state of a time when the device had not seen the withdrawal of version 2."""
    honest = stage.trust.files
    stage.trust.sign_target(stage.target)
    stage.trust.publish()
    earlier = dict(honest)
    stage.trust.withdraw(target_path("scale", 2, stage.target.flavor.name))
    for _ in range(2):
        stage.trust.publish()
    stage.deploy_unsigned()
    wait_until(lambda: "is not in the signed metadata" in stage.error())
    stage.trust.files = earlier
    yield
    stage.trust.files = honest


@contextmanager
def mixed_metadata(stage: Stage) -> Iterator[None]:
    """It offers the targets of one moment with the rest of another."""
    former = stage.trust.files[f"{stage.trust.targets.version}.targets.json"]
    stage.trust.sign_desired(stage.second)
    stage.trust.replaced[f"{stage.trust.targets.version}.targets.json"] = former
    stage.coordinator.deploy(stage.second)
    yield
    stage.trust.replaced.clear()


@contextmanager
def expired_timestamp(stage: Stage) -> Iterator[None]:
    """Nobody has signed that this is the newest for days."""
    now = stage.trust.now
    stage.trust.now -= timedelta(days=3)
    stage.coordinator.deploy(stage.second)
    yield
    stage.trust.now = now
    stage.trust.publish()


@contextmanager
def wrong_team(stage: Stage) -> Iterator[None]:
    """It has the key of a team whose models are others."""
    stage.trust.add_project("vision", prefix="vision-")
    stage.trust.sign_target(stage.target, role="vision")
    stage.trust.publish()
    stage.deploy_unsigned()
    yield
    del stage.trust.projects["vision"].targets[target_path("scale", 2, stage.target.flavor.name)]


@contextmanager
def root_without_threshold(stage: Stage) -> Iterator[None]:
    """It brings a next root that only its own key has signed."""
    stage.trust.replaced["2.root.json"] = _forged_root()
    stage.coordinator.deploy(stage.second)
    yield
    stage.trust.replaced.clear()


@contextmanager
def another_fleet(stage: Stage) -> Iterator[None]:
    """It was replaced by the coordinator of another fleet, which signs with its own keys."""
    honest = stage.trust
    stage.coordinator.trust = SimulatedRepository()
    stage.coordinator.deploy(stage.second)
    yield
    stage.coordinator.trust = honest


def _forged_root() -> bytes:
    forger = SimulatedRepository()
    forger.publish_root()
    return forger.roots[-1]


ATTACKS: dict[Callable[[Stage], AbstractContextManager[None]], str] = {
    nothing_signed: "is not in the signed metadata",
    another_desired: "is not what was signed",
    tampered_target: "SHA-256",
    longer_target: "bytes announced",
    endless_target: "bytes announced",
    endless_metadata: "timestamp.json is longer than",
    garbage_metadata: "does not verify",
    rolled_back_metadata: "rolled back",
    mixed_metadata: "does not verify",
    expired_timestamp: "timestamp.json is expired by this device's clock",
    wrong_team: "is not in the signed metadata",
    root_without_threshold: "not signed by whom this device trusts",
    another_fleet: "not signed by whom this device trusts",
}


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


@pytest.mark.parametrize(("attack", "words"), ATTACKS.items(), ids=[attack.__name__ for attack in ATTACKS])
def test_only_what_is_signed_ever_serves(
    coordinator: SimulatedCoordinator,
    state: Path,
    tmp_path: Path,
    attack: Callable[[Stage], AbstractContextManager[None]],
    words: str,
) -> None:
    """Before, during and after the attack, over a kill and a boot."""
    coordinator.deploy(scale_model(coordinator, tmp_path, version=1, factor=1.0))
    stage = Stage(coordinator=coordinator, second=scale_model(coordinator, tmp_path, version=2, factor=2.0))
    with agent_process(state) as process:
        wait_until(lambda: serves(coordinator, 1))
        with Witness(state) as witness, attack(stage):
            wait_until(lambda: words in stage.error(), what=f"{words!r} in what the device reports")
            process.kill()
            process.wait(30)
            coordinator.reported.clear()
            with agent_process(state) as again:
                wait_until(lambda: words in stage.error(), what=f"{words!r} after a boot")
                again.terminate()
                assert again.wait(30) == 0
        assert witness.factors == {1.0}
    with agent_process(state), Witness(state) as witness:
        coordinator.deploy(stage.second)
        wait_until(lambda: serves(coordinator, 2))
        wait_until(lambda: 2.0 in witness.factors)
    assert witness.factors <= {1.0, 2.0}


async def test_a_slow_target_gives_up_its_turn(tmp_path: Path) -> None:
    """A coordinator that sends a byte now and then holds neither the device nor its other models."""
    async with SimulatedCoordinator() as coordinator:
        await enroll_device(coordinator, tmp_path / "state")
        first = scale_model(coordinator, tmp_path, version=1, factor=1.0)
        second = scale_model(coordinator, tmp_path, version=2, factor=2.0)
        other = scale_model(coordinator, tmp_path, model="zoom", factor=3.0)
        settings = LinkSettings(least_bytes_per_s=100_000, pace_window=timedelta(seconds=0.3))
        daemon = Daemon(StateDir(tmp_path / "state"), AgentConfig(), link_settings=settings)
        stop = asyncio.Event()
        task = asyncio.create_task(daemon.run(stop), name="agent")
        coordinator.deploy(first)
        await wait_until_async(lambda: serves(coordinator, 1))
        coordinator.faults.drips[second.flavors[0].digest] = 0.02
        coordinator.deploy(second, other)
        await wait_until_async(lambda: "zoom" in _serving(coordinator))
        await wait_until_async(lambda: "only drips" in _errors(coordinator))
        np.testing.assert_allclose(daemon.agent.predict("scale", X)["y"], X)
        stop.set()
        async with asyncio.timeout(30):
            await task


def _serving(coordinator: SimulatedCoordinator) -> set[str]:
    return {
        model.model
        for state in coordinator.reported.values()
        for model in state.models
        if model.version and not model.error
    }


def _errors(coordinator: SimulatedCoordinator) -> str:
    return " ".join(model.error for state in coordinator.reported.values() for model in state.models)
