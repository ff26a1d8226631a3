"""The files of one slot: made, read and cleared so that a crash in between leaves nothing that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder
from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts.active import MANIFEST, read_manifest
from edgeward_agent.artifacts.manifest import Manifest, decode_manifest

if TYPE_CHECKING:
    from pathlib import Path

INTENT = "incoming.json"


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def clear_slot(slot: Path) -> None:
    """Empty a slot; the manifest goes first, so that a slot that is half empty never counts.

    Files are unlinked and never truncated: another process may have the model mapped.
    """
    (slot / MANIFEST).unlink(missing_ok=True)
    fsync_folder(slot)
    for path in slot.iterdir():
        path.unlink()
    fsync_folder(slot)


def read_intent(slot: Path) -> Manifest | None:
    """What the slot is being filled with."""
    try:
        return decode_manifest((slot / INTENT).read_bytes())
    except (OSError, WireError):
        return None


def read_finished(slot: Path) -> Manifest | None:
    """What the slot holds, checked."""
    try:
        return read_manifest(slot)
    except (OSError, WireError):
        return None


def holds_same(found: Manifest | None, wanted: Manifest) -> bool:
    """Whether it is the same artifact of the same version."""
    return found is not None and (found.model, found.version, found.flavor) == (
        wanted.model,
        wanted.version,
        wanted.flavor,
    )
