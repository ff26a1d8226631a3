"""A slot store on an empty folder, and where its bytes come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_agent.artifacts import SlotStore
from tests.agent.models_on_disk import ArtifactSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder of models."""
    return tmp_path / "state" / "models"


@pytest.fixture
def steps() -> list[str]:
    """The steps that were passed."""
    return []


@pytest.fixture
def store(models: Path, steps: list[str]) -> Iterator[SlotStore]:
    """A store that says which steps it passes."""
    opened = SlotStore(models, checkpoint=steps.append)
    yield opened
    opened.close()


@pytest.fixture
def source() -> ArtifactSource:
    """Where bytes come from."""
    return ArtifactSource()
