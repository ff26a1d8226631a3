"""A fleet over each database, with a CA of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.fleet import Fleet
from edgeward_coordinator.identity import FleetCA

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock


@pytest.fixture
def ca(tmp_path: Path, clock: SetClock) -> FleetCA:
    """The fleet CA under the set clock."""
    return FleetCA.load_or_create(tmp_path / "ca", clock=clock)


@pytest.fixture
def fleet(database: Database, ca: FleetCA) -> Fleet:
    """No devices yet."""
    return Fleet(database, ca)
