"""A fleet's repository that has signed one version, and a device of that fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agent.trust.device import NOON, Device, target_of
from tests.agent.trust.repository import SimulatedRepository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository() -> SimulatedRepository:
    """It has signed digits 1."""
    repository = SimulatedRepository(now=NOON)
    repository.sign_target(target_of())
    repository.publish()
    return repository


@pytest.fixture
def device(repository: SimulatedRepository, tmp_path: Path) -> Device:
    """Of that fleet."""
    return Device(tmp_path / "trust", repository)
