"""A coordinator and devices for each test, gone afterwards whatever happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import Coordinator, Device, Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """Running."""
    coordinator = Coordinator(tmp_path / "coordinator")
    coordinator.start()
    yield coordinator
    coordinator.kill()


@pytest.fixture
def admin(coordinator: Coordinator, tmp_path: Path) -> Operator:
    """Logged in."""
    return coordinator.admin(tmp_path / "config")


@pytest.fixture
def make_device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Make devices by name; each agent is ended at the end."""
    devices: list[Device] = []

    def make(name: str) -> Device:
        devices.append(Device(tmp_path / "devices", name))
        return devices[-1]

    yield make
    for device in devices:
        device.kill()
