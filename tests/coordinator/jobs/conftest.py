"""A registry, and jobs whose process is the stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.jobs import Jobs
from edgeward_coordinator.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward_coordinator.storage import BlobStore, Database

STAND_IN = Path(__file__).parent / "stand_in_compress.py"


@pytest.fixture
def registry(database: Database, blobs: BlobStore, tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry(database, blobs, tmp_path / "scratch")


@pytest.fixture
def open_jobs(database: Database, registry: Registry, tmp_path: Path) -> Callable[..., Jobs]:
    """Opens the same jobs, as often as a coordinator starts."""

    def open_them(**options: object) -> Jobs:
        return Jobs(
            database=database,
            registry=registry,
            folder=tmp_path / "jobs",
            clock=database.clock,
            command=(sys.executable, str(STAND_IN)),
            **options,  # type: ignore[arg-type]
        )

    return open_them


@pytest.fixture
def jobs(open_jobs: Callable[..., Jobs]) -> Jobs:
    """No jobs yet."""
    return open_jobs()
