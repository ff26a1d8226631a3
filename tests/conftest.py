"""Fixtures that several components share: both databases, a folder of blobs, a clock that is set by hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from edgeward_coordinator.storage import BlobStore, Database, migrate
from tests.postgres import PostgresServer, find_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "edgeward", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("edgeward")


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:  # noqa: D102
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move forward."""
        self.now += by


@pytest.fixture
def clock() -> SetClock:
    """A clock at noon of 2026-01-01 UTC."""
    return SetClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; missing is a failure in CI and a visible skip elsewhere."""
    programs = find_postgres()
    if programs is None:
        reason = "PostgreSQL's server programs are missing (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/edgeward.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture
def database(database_url: str, clock: SetClock) -> Iterator[Database]:
    """A migrated database under the set clock."""
    opened = Database(database_url, clock=clock)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """Blobs in a folder."""
    return BlobStore(str(tmp_path / "objects"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and public models named by EDGEWARD_DATA."""
    folder = os.environ.get("EDGEWARD_DATA")
    if not folder:
        pytest.skip("EDGEWARD_DATA names no folder of real data")
    return Path(folder)
