"""Trust over a real registry on each database, and devices that follow it with python-tuf's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.registry import Registry
from edgeward_coordinator.trust import Trust
from tests.coordinator.trust.follower import Follower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward_coordinator.storage import BlobStore, Database
    from tests.conftest import SetClock


@pytest.fixture
def registry(database: Database, blobs: BlobStore, tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry(database, blobs, tmp_path / "scratch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the coordinator keeps its keys."""
    return tmp_path / "trust"


@pytest.fixture
def trust(database: Database, registry: Registry, folder: Path, clock: SetClock) -> Trust:
    """With all keys at hand."""
    made = Trust(database, registry, folder, clock=clock)
    made.ensure()
    return made


@pytest.fixture
def enroll(tmp_path: Path, clock: SetClock) -> Callable[[Trust], Follower]:
    """Make a device that has the newest root."""
    devices: list[Follower] = []

    def make(trust: Trust) -> Follower:
        devices.append(Follower(tmp_path / f"device-{len(devices)}", trust.root(), trust.metadata, clock))
        return devices[-1]

    return make
