"""The last desired state on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_agent.reconcile import DesiredStore, StoredDesired
from tests.agent.reconcile.builders import Shelf, desired_state

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_persisted_is_loaded(tmp_path: Path) -> None:
    """Flavors, digests and the generation that was reached included."""
    desired = desired_state(7, Shelf().desired_model("digits", 3, "onnx-int8", "tflite-int8"))
    stored = StoredDesired(desired=desired, reached=6)
    DesiredStore(tmp_path / "desired.json").persist(stored)
    assert DesiredStore(tmp_path / "desired.json").load() == stored


def test_a_device_that_was_never_told_knows_nothing(tmp_path: Path) -> None:
    """That is another thing than a desired state without models."""
    assert DesiredStore(tmp_path / "desired.json").load() == StoredDesired(desired=None, reached=0)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"reached": 1}', b'{"reached": 1, "desired": "?"}', b'{"reached": 1, "desired": "//8="}'],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    """The coordinator says it again; the device boots."""
    path = tmp_path / "desired.json"
    path.write_bytes(content)
    assert DesiredStore(path).load().desired is None
