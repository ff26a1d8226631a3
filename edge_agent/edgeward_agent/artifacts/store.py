"""The models of a device in two slots each: installed beside what serves, activated by one atomic replacement."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder, write_atomic
from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_model_name
from edgeward_agent.artifacts.active import (
    POINTER,
    ActiveModel,
    models_on_disk,
    read_active,
    read_manifest,
    read_pointer,
    resolve_active,
    slot_folder,
)
from edgeward_agent.artifacts.errors import InstallError
from edgeward_agent.artifacts.installation import Installation
from edgeward_agent.artifacts.lock import FolderLock
from edgeward_agent.artifacts.manifest import SLOTS, Manifest, Pointer, encode_pointer, other_slot
from edgeward_agent.artifacts.slot_files import make_folder
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from edgeward_agent.artifacts.check import Check
    from edgeward_agent.artifacts.installation import Fetch

_LOCK = ".lock"
_REMOVED = ".removed-"


class SlotStore:
    """The folder `models/`; the only writer there, which a lock makes sure of. Close it to let another in.

    Args:
        folder: `models/` in the state directory; made where it is missing.
        checkpoint: Called with each of `STEPS` once it is durable.

    Raises:
        StateInUse: Another process has it open.
        Misuse: The folder can't be made or written.
    """

    def __init__(self, folder: Path, *, checkpoint: Callable[[str], None] = lambda _step: None) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._installing = asyncio.Lock()
        try:
            make_folder(folder)
            self._lock = FolderLock(folder / _LOCK)
        except OSError as error:
            raise Misuse(
                f"the state directory {folder.parent} can't be written: {error.strerror}",
                hint="run as the agent's user, or give another directory",
            ) from error

    def recover(self) -> list[str]:
        """At boot: verify what serves, fall back where it is damaged, sweep up.

        Returns:
            What was repaired, in words; nothing after an orderly end.
        """
        for path in self._folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)
        words: list[str] = []
        for model in models_on_disk(self._folder):
            try:
                words += _recover_model(self._folder / model)
            except OSError as error:
                # Whoever loads the model resolves it again, so a disk that takes no write stops nothing here.
                words.append(f"{model} could not be repaired: {error}")
        return words

    def active(self, model: str) -> ActiveModel | None:
        """What serves of a model; None where nothing does."""
        return read_active(self._folder / model)

    def installed(self) -> dict[str, ActiveModel]:
        """What serves of each model."""
        found = {model: self.active(model) for model in self.on_disk()}
        return {model: active for model, active in found.items() if active is not None}

    def on_disk(self) -> list[str]:
        """The models that take place here, those included of which nothing serves yet."""
        return models_on_disk(self._folder)

    async def install(self, model: str, version: int, flavor: Flavor, *, fetch: Fetch, check: Check) -> ActiveModel:
        """Bring a version to serve; at once where it serves already.

        What served goes on serving until the new model has passed its check, and stays whole in its slot after.

        Args:
            model: Its name.
            version: Its number.
            flavor: The artifact to install.
            fetch: `(digest, offset)` to the bytes from there on.
            check: Whether the model may serve here.

        Raises:
            InstallError: This flavor can't serve here; nothing has changed for what serves.
            FetchInterrupted: Try again; `DiskFull` among them, once somebody has made room.
        """
        _verify_installable(model, flavor)
        async with self._installing:
            active = self.active(model)
            if active is not None and (active.version, active.flavor, active.digest) == (
                version,
                flavor.name,
                flavor.digest,
            ):
                return active
            installation = self._plan(self._folder / model, version, flavor, active)
            return await installation.run(fetch=fetch, check=check)

    def remove(self, model: str) -> None:
        """Stop serving a model and free its room; nothing where there is none."""
        folder = self._folder / parse_model_name(model)
        if not folder.is_dir():
            return
        # Out of sight in one step; a crash after it leaves rubbish, which `recover` sweeps up.
        removed = self._folder / f"{_REMOVED}{model}"
        shutil.rmtree(removed, ignore_errors=True)
        folder.replace(removed)
        fsync_folder(self._folder)
        shutil.rmtree(removed, ignore_errors=True)

    def close(self) -> None:
        """Give the lock back; twice is once."""
        self._lock.close()

    def _plan(self, folder: Path, version: int, flavor: Flavor, active: ActiveModel | None) -> Installation:
        serial = 1 + max(_newest_serial(folder), active.generation if active else 0)
        slot = other_slot(active.slot) if active else "a"
        return Installation(
            folder,
            manifest=Manifest(model=folder.name, version=version, flavor=flavor, serial=serial),
            pointer=Pointer(slot=slot, former=active.slot if active else None, generation=serial),
            checkpoint=self._checkpoint,
        )


def _recover_model(folder: Path) -> list[str]:
    _remove_temporary_files(folder)
    resolved = resolve_active(folder)
    words = list(resolved.problems)
    try:
        pointer = read_pointer(folder)
    except (OSError, WireError):
        pointer = None
    active = resolved.active
    if active is None:
        if words:
            (folder / POINTER).unlink(missing_ok=True)
            words.append(f"nothing of {folder.name} can serve until it is installed again")
        return words
    if pointer is None or pointer.slot != active.slot:
        generation = max(active.generation, _newest_serial(folder)) + 1
        repaired = Pointer(slot=active.slot, former=None, generation=generation)
        write_atomic(folder / POINTER, encode_pointer(repaired))
        words.append(f"{folder.name} serves version {active.version} ({active.flavor}) from slot {active.slot}")
    return words


def _newest_serial(folder: Path) -> int:
    serials = [0]
    for slot in SLOTS:
        try:
            serials.append(read_manifest(slot_folder(folder, slot)).serial)
        except (OSError, WireError):
            continue
    return max(serials)


def _remove_temporary_files(folder: Path) -> None:
    """What `write_atomic` leaves when it is killed."""
    for place in (folder, *(slot_folder(folder, slot) for slot in SLOTS)):
        for path in place.glob(".*"):
            path.unlink(missing_ok=True)


def _verify_installable(model: str, flavor: Flavor) -> None:
    try:
        parse_model_name(model)
    except WireError as error:
        raise InstallError(str(error)) from error
    if flavor.format == "arrays":
        raise InstallError(f"{flavor.name} is weights alone; no runtime can serve it")
