"""The files of one slot: made, read and cleared so that a crash in between leaves nothing that counts."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder
from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts.active import INTENT, MANIFEST, read_manifest, slot_folder
from edgeward_agent.artifacts.manifest import SLOTS, Manifest, decode_manifest

if TYPE_CHECKING:
    from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def clear_slot(slot: Path, *, keep: str = "") -> None:
    """Empty a slot but for one file; the manifest goes first, so that a slot that is half empty never counts.

    Files are unlinked and never truncated: another process may have the model mapped.
    """
    if not slot.is_dir():
        return
    (slot / MANIFEST).unlink(missing_ok=True)
    fsync_folder(slot)
    for path in slot.iterdir():
        if path.name != keep:
            path.unlink()
    fsync_folder(slot)


def retire_slot(slot: Path) -> None:
    """Make a slot count no more, in one step. Its files stay, as those of an installation that could go on."""
    if (slot / MANIFEST).exists():
        (slot / MANIFEST).replace(slot / INTENT)
        fsync_folder(slot)


def bytes_in(folder: Path) -> int:
    """The sizes of all files in a folder, those inside its folders included; files that vanish meanwhile count 0."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


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


def newest_serial(folder: Path) -> int:
    """The highest serial of what a model's slots hold or are being filled with; 0 where they are empty."""
    slots = [slot_folder(folder, slot) for slot in SLOTS]
    found = [
        manifest for slot in slots for manifest in (read_finished(slot), read_intent(slot)) if manifest is not None
    ]
    return max((manifest.serial for manifest in found), default=0)


def remove_temporary_files(folder: Path, *, spared: Path | None = None) -> None:
    """What `write_atomic`, or a patch that was being applied, leaves when it is killed; not in the slot `spared`."""
    for place in (folder, *(slot_folder(folder, slot) for slot in SLOTS)):
        for path in place.glob(".*") if place != spared else ():
            path.unlink(missing_ok=True)
