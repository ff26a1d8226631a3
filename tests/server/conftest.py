"""The server's own fixtures: SQLite is enough here, the store's tests run on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.fleet import Fleet
from edgeward_coordinator.identity import FleetCA
from edgeward_server.running import RunningCalls
from edgeward_server.sessions import SessionHub
from tests.server.harness import Running, config_in, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A file."""
    return f"sqlite:///{tmp_path}/edgeward.db"


@pytest.fixture
def fleet(database: Database, clock: SetClock, tmp_path: Path) -> Fleet:
    """Without devices."""
    return Fleet(database, FleetCA.load_or_create(tmp_path / "ca", clock=clock))


@pytest.fixture
def calls() -> RunningCalls:
    """None running."""
    return RunningCalls()


@pytest.fixture
def hub(database: Database, fleet: Fleet, calls: RunningCalls, clock: SetClock) -> SessionHub:
    """Without sessions."""
    return SessionHub(fleet=fleet, deployments=Deployments(database), calls=calls, heartbeat_s=30, clock=clock)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A running coordinator on an empty folder."""
    async with running(config_in(tmp_path / "data")) as started:
        yield started
