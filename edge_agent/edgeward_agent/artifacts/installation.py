"""One version into one slot: the persisted steps from whatever is there to a model that may serve.

Everything happens in the slot that doesn't serve. `incoming.json` says what the
slot is being filled with, so that after a crash the same installation goes on
where it stopped and another one starts over; at the end it becomes
`manifest.json`, and only then the pointer changes. So a kill between any two
instructions leaves either the old model or the new one serving.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from edgeward.durable import PartialFile, fsync_folder, write_atomic
from edgeward.protocol.digests import digest_of_file
from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import TOLERANCES, decode_golden
from edgeward_agent.artifacts import patching
from edgeward_agent.artifacts.active import GOLDEN, INTENT, MANIFEST, model_path, slot_folder
from edgeward_agent.artifacts.errors import NO_ROOM, BadDelivery, DiskFull, FetchInterrupted, InstallError
from edgeward_agent.artifacts.in_thread import in_thread
from edgeward_agent.artifacts.manifest import encode_manifest
from edgeward_agent.artifacts.reception import DownloadMarks, Fetch, Reception
from edgeward_agent.artifacts.slot_files import (
    bytes_in,
    clear_slot,
    holds_same,
    make_folder,
    read_finished,
    read_intent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.targets import PatchOffer
    from edgeward_agent.artifacts.check import Check
    from edgeward_agent.artifacts.manifest import Manifest, SlotName
    from edgeward_agent.artifacts.model_folder import ModelFolder
    from edgeward_agent.artifacts.patching import Patch
    from edgeward_agent.artifacts.room import Room
    from edgeward_agent.artifacts.steps import Checkpoint

_LOG = logging.getLogger(__name__)

# Of the pointer and the refusals.
_SMALL_FILES_BYTES = 1 << 10


class Installation:
    """Fill a slot that does not serve as `manifest` says.

    Args:
        folder: The model's.
        slot: The slot to fill.
        manifest: What with.
        patches: The patches that there are for it.
        room: What the disk and its owner allow.
        complete: Called in a thread once the model is there, verified and checked: what makes it count.
        checkpoint: Called with each of `STEPS` once it is durable.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        slot: SlotName,
        manifest: Manifest,
        patches: Sequence[PatchOffer],
        room: Room,
        complete: Callable[[], object],
        checkpoint: Checkpoint,
    ) -> None:
        self._folder = folder
        self._slot_name: SlotName = slot
        self._slot = slot_folder(folder.path, slot)
        self._manifest = manifest
        self._patches = patches
        self._room = room
        self._complete = complete
        self._checkpoint = checkpoint
        self._reuses = False

    async def run(self, *, fetch: Fetch, check: Check) -> None:
        """Take all steps that are left.

        Raises:
            InstallError: The artifact does not compute what it should; the slot is empty again.
            DiskFull: There is no room; the slot is empty again, unless it held this very version already.
            FetchInterrupted: The bytes stopped coming, or were others (`BadDelivery`); what is sound is kept.
        """
        reception = Reception(fetch, title=self._title)
        try:
            patch = await in_thread(self._prepare)
            await self._bring_model(reception, patch)
            golden = await self._fetch_golden(reception)
            await check(self._model_path, self._manifest.flavor, golden)
            self._checkpoint("checked")
            await in_thread(self._finish)
        except InstallError:
            await in_thread(self._free_slot)
            raise
        except OSError as error:
            raise await in_thread(self._explain, error) from error

    @property
    def _model_path(self) -> Path:
        return model_path(self._slot, self._manifest)

    def _prepare(self) -> Patch | None:
        """Make the slot ready for this very installation; what a former attempt left of it stays.

        Returns:
            The patch to take, if any.
        """
        resumes = holds_same(read_intent(self._slot), self._manifest)
        self._reuses = holds_same(read_finished(self._slot), self._manifest) and self._is_sound()
        keeps = resumes or self._reuses
        patch = self._afford(self._find_patch(keeps=keeps))
        make_folder(self._slot)
        if not self._reuses:
            self._folder.give_up(self._slot_name)
        if keeps:
            patching.sweep_patches(self._slot, keep=patch)
        else:
            patch = self._clear(patch)
        if not resumes:
            write_atomic(self._slot / INTENT, encode_manifest(self._manifest))
            self._checkpoint("intent-written")
        return patch

    def _is_sound(self) -> bool:
        try:
            return digest_of_file(self._model_path) == self._manifest.flavor.digest
        except OSError:
            return False

    def _find_patch(self, *, keeps: bool) -> Patch | None:
        flavor = self._manifest.flavor
        whole = PartialFile(self._model_path, digest=flavor.digest, total_bytes=flavor.total_bytes)
        if keeps and patching.are_patches_forbidden(self._slot):
            return None
        return patching.choose_patch(
            self._patches,
            patching.find_bases(self._folder.path, self._slot),
            missing_bytes=whole.missing_bytes if keeps else flavor.total_bytes,
            missing_of=lambda offer: patching.missing_of(self._slot, offer),
        )

    def _afford(self, patch: Patch | None) -> Patch | None:
        """Check for room before what the slot holds is given up for it; a patch that has none is done without."""
        if self._reuses:
            return None
        flavor = self._manifest.flavor
        small_files = 2 * len(encode_manifest(self._manifest)) + _SMALL_FILES_BYTES
        growth = flavor.total_bytes + flavor.golden_bytes + small_files - bytes_in(self._slot)
        if patch is not None and self._room.fits(growth + self._extra_bytes(patch)):
            return patch
        self._room.require(growth, title=self._title)
        return None

    def _extra_bytes(self, patch: Patch) -> int:
        """What a patch takes beside the model that it makes."""
        base = patch.base.stat().st_size if patch.base.parent == self._slot else 0
        part = self._model_path.with_name(self._model_path.name + ".part")
        return patch.offer.total_bytes + base + (part.stat().st_size if part.exists() else 0)

    def _clear(self, patch: Patch | None) -> Patch | None:
        if patch is not None:
            patch = patching.keep_base(self._slot, patch)
            if patch.base.parent == self._slot:
                self._checkpoint("base-kept")
        clear_slot(self._slot, keep=patch.base.name if patch is not None else "")
        self._checkpoint("slot-cleared")
        return patch

    async def _bring_model(self, reception: Reception, patch: Patch | None) -> None:
        if patch is None or not await self._patch_model(reception, patch):
            flavor = self._manifest.flavor
            marks = DownloadMarks(self._checkpoint, flavor.total_bytes)
            await reception.receive(self._model_path, flavor.digest, flavor.total_bytes, marks.passed)
        await in_thread(patching.end_patching, self._slot)
        self._checkpoint("verified")

    async def _patch_model(self, reception: Reception, patch: Patch) -> bool:
        """Make the model from a patch; where that fails, leave the way free for the whole file."""
        problem = await self._try_patch(reception, patch)
        flavor, offer = self._manifest.flavor, patch.offer
        if problem:
            _LOG.warning("%s: the patch %s is not usable: %s", self._title, offer.digest[:12], problem)
            await in_thread(patching.forbid_patches, self._slot)
            await in_thread(patching.sweep_patches, self._slot)
            self._checkpoint("patch-refused")
            return False
        self._checkpoint("patched")
        _LOG.info(
            "%s: made from %d bytes of patch in place of %d (%d saved)",
            self._title,
            offer.total_bytes,
            flavor.total_bytes,
            flavor.total_bytes - offer.total_bytes,
        )
        return True

    async def _try_patch(self, reception: Reception, patch: Patch) -> str:
        """What is wrong with the patch; nothing once the model is in its place."""
        if not await in_thread(patching.is_base_sound, patch):
            return f"the model that it starts from ({patch.offer.base_digest[:12]}…) is damaged here"
        path = patching.patch_path(self._slot, patch.offer)
        try:
            await reception.receive(path, patch.offer.digest, patch.offer.total_bytes)
        except BadDelivery as error:
            return str(error)
        self._checkpoint("patch-fetched")
        return await in_thread(
            patching.apply_verified,
            patch,
            slot=self._slot,
            target=self._model_path,
            flavor=self._manifest.flavor,
        )

    async def _fetch_golden(self, reception: Reception) -> GoldenSet | None:
        flavor = self._manifest.flavor
        if flavor.golden_digest is None:
            return None
        path = self._slot / GOLDEN
        await reception.receive(path, flavor.golden_digest, flavor.golden_bytes)
        self._checkpoint("golden-fetched")
        try:
            data = await in_thread(path.read_bytes)
            return decode_golden(data, default_tolerance=TOLERANCES[flavor.precision])
        except WireError as error:
            raise InstallError(f"the golden set of {self._title} is unusable: {error}") from error

    def _finish(self) -> None:
        (self._slot / INTENT).replace(self._slot / MANIFEST)
        fsync_folder(self._slot)
        self._checkpoint("manifest-written")
        self._complete()

    def _explain(self, error: OSError) -> FetchInterrupted:
        if error.errno not in NO_ROOM:
            return FetchInterrupted(f"{self._title} could not be written: {error.strerror or error}")
        if not self._reuses:
            # A full disk harms all else on the device, so what half arrived gives its room back.
            self._free_slot()
        return DiskFull(
            f"the disk is full: {self._title} was not installed ({error.strerror})",
            hint=f"make room on the file system of {self._folder.path}",
        )

    def _free_slot(self) -> None:
        pointer = self._folder.pointer()
        if pointer is not None and pointer.slot == self._slot_name:
            return
        # Should it fail, nothing is lost: without a manifest the slot does not count.
        with suppress(OSError):
            self._folder.give_up(self._slot_name)
            clear_slot(self._slot)

    @property
    def _title(self) -> str:
        return f"{self._manifest.model} version {self._manifest.version} ({self._manifest.flavor.name})"
