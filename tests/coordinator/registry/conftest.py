"""A registry on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.storage import BlobStore, Database


@pytest.fixture
def registry(database: Database, blobs: BlobStore, tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry(database, blobs, tmp_path / "scratch")
