"""A coordinator's data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.coordinator.aggregation.fleet import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty one."""
    return Site(tmp_path)
