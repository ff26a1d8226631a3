"""Room for models: of the disk, and of the limit that its owner sets on all of `models/` together.

Nothing that serves, could serve again or runs as a candidate is ever removed to
make room; what is rubbish is removed before anything is refused.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts.active import MANIFEST, models_on_disk, read_pointer, slot_folder
from edgeward_agent.artifacts.errors import DiskFull, QuotaExceeded
from edgeward_agent.artifacts.manifest import SLOTS
from edgeward_agent.artifacts.slot_files import (
    bytes_in,
    clear_slot,
    read_finished,
    read_intent,
    remove_temporary_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

REMOVED = ".removed-"

# Left free on the disk for whatever else the device writes meanwhile.
_MARGIN_BYTES = 1 << 20


class Room:
    """What `models/` may still take.

    Args:
        folder: `models/`.
        max_bytes: The limit on all files in it; None: the disk alone.
        collect: Removes what is rubbish; returns the bytes that this gave back.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None, collect: Callable[[], int]) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._collect = collect

    def fits(self, growth: int) -> bool:
        """Whether `models/` may grow by so many bytes, rubbish removed if that decides it."""
        return self._has(growth) or (self._collect() > 0 and self._has(growth))

    def require(self, growth: int, *, title: str) -> None:
        """Make sure that `models/` may grow by so many bytes.

        Raises:
            DiskFull: The disk has no room.
            QuotaExceeded: The limit leaves none.
        """
        if self.fits(growth):
            return
        free = self._free_bytes()
        if free < growth + _MARGIN_BYTES:
            raise DiskFull(
                f"{title} needs {growth + _MARGIN_BYTES} bytes of disk and {free} are free",
                hint=f"make room on the file system of {self._folder}",
            )
        left = self._left_bytes()
        raise QuotaExceeded(
            f"{title} needs {growth} bytes of the {self._max_bytes} that models may take, and {max(left, 0)} are left: "
            f"{growth - left} are missing",
            hint="allow more, or let fewer models run here",
        )

    def _has(self, growth: int) -> bool:
        if growth <= 0:
            return True
        if self._free_bytes() < growth + _MARGIN_BYTES:
            return False
        return self._max_bytes is None or growth <= self._left_bytes()

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _left_bytes(self) -> int:
        return (self._max_bytes or 0) - bytes_in(self._folder)


def collect_garbage(folder: Path, *, wanted: Collection[tuple[str, int]], spared: Path | None) -> int:
    """Remove what nobody needs: leftovers of killed writers, removed models, slots that the pointer does not name.

    Args:
        folder: `models/`.
        wanted: Versions of models of which also half a download is kept.
        spared: The slot that is being filled.

    Returns:
        The bytes that this gave back.
    """
    before = bytes_in(folder)
    for path in folder.glob(f"{REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)
    for model in models_on_disk(folder):
        remove_temporary_files(folder / model, spared=spared)
        for slot in _unused_slots(folder / model):
            held = read_finished(slot) or read_intent(slot)
            if slot != spared and (held is None or (model, held.version) not in wanted):
                clear_slot(slot)
    return before - bytes_in(folder)


def _unused_slots(folder: Path) -> list[Path]:
    try:
        pointer = read_pointer(folder)
    except (OSError, WireError):
        return []
    slots = [slot_folder(folder, slot) for slot in SLOTS if pointer is None or slot not in pointer.slots_in_use]
    # Where the pointer is lost, what is whole is what the next boot serves.
    return [slot for slot in slots if pointer is not None or not (slot / MANIFEST).exists()]
