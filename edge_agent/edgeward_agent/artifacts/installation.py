"""One update of one model: the persisted steps from an empty slot to an activation.

Everything happens in the slot that doesn't serve. `incoming.json` says what the
slot is being filled with, so that after a crash the same installation goes on
where it stopped and another one starts over; at the end it becomes
`manifest.json`, and only then the pointer moves. So a kill between any two
instructions leaves either the old model or the new one serving.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edgeward.durable import PartialFile, fsync_folder, write_atomic
from edgeward.protocol.digests import Digest, digest_of_file
from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import TOLERANCES, decode_golden
from edgeward_agent.artifacts.active import (
    GOLDEN,
    MANIFEST,
    POINTER,
    ActiveModel,
    active_of,
    model_path,
    slot_folder,
)
from edgeward_agent.artifacts.errors import DiskFull, FetchInterrupted, InstallError
from edgeward_agent.artifacts.manifest import Manifest, Pointer, encode_manifest, encode_pointer
from edgeward_agent.artifacts.slot_files import INTENT, clear_slot, holds_same, make_folder, read_finished, read_intent

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.golden import GoldenSet
    from edgeward_agent.artifacts.check import Check

_P = ParamSpec("_P")
_T = TypeVar("_T")

Fetch = Callable[[Digest, int], AsyncIterator[bytes]]

# What an installation passes, in this order, each durable before the next begins (the bytes of a download, with
# "verified"). An installation that goes on after a crash passes only what was left.
STEPS: tuple[str, ...] = (
    "slot-cleared",
    "intent-written",
    "download-begun",
    "download-half",
    "downloaded",
    "verified",
    "golden-fetched",
    "checked",
    "manifest-written",
    "activated",
)

# Left free for manifests, and for whatever else the device writes meanwhile.
_MARGIN_BYTES = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Installation:
    """Fill `pointer.slot` as `manifest` says and activate it.

    Args:
        folder: The model's folder, `models/<model>`.
        manifest: What to install.
        pointer: What the pointer will be.
        checkpoint: Called with each of `STEPS` once it is durable.
    """

    def __init__(
        self, folder: Path, *, manifest: Manifest, pointer: Pointer, checkpoint: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._slot = slot_folder(folder, pointer.slot)
        self._manifest = manifest
        self._pointer = pointer
        self._checkpoint = checkpoint

    async def run(self, *, fetch: Fetch, check: Check) -> ActiveModel:
        """Take all steps that are left.

        Raises:
            InstallError: The artifact is damaged or does not compute what it should; the slot is empty again.
            DiskFull: There is no room; the slot is empty again.
            FetchInterrupted: The bytes stopped coming; what arrived is kept.
        """
        try:
            await _in_thread(self._prepare)
            await self._fetch_model(fetch)
            golden = await self._fetch_golden(fetch)
            await check(self._model_path, self._manifest.flavor, golden)
            self._checkpoint("checked")
            return await _in_thread(self._activate)
        except InstallError:
            await _in_thread(self._free_slot)
            raise
        except OSError as error:
            raise await _in_thread(self._give_up, error) from error

    @property
    def _model_path(self) -> Path:
        return model_path(self._slot, self._manifest)

    def _prepare(self) -> None:
        """Make the slot ready for this very installation; what a former attempt left of it stays."""
        resumes = holds_same(read_intent(self._slot), self._manifest)
        reuses = holds_same(read_finished(self._slot), self._manifest)
        self._verify_room(kept=resumes or reuses)
        make_folder(self._slot)
        if not (resumes or reuses):
            clear_slot(self._slot)
            self._checkpoint("slot-cleared")
        if not resumes:
            write_atomic(self._slot / INTENT, encode_manifest(self._manifest))
            self._checkpoint("intent-written")

    def _verify_room(self, *, kept: bool) -> None:
        """Check for room before what the slot holds is given up for it."""
        flavor = self._manifest.flavor
        here = sum(path.stat().st_size for path in self._slot.iterdir()) if self._slot.is_dir() else 0
        wanted = flavor.total_bytes + flavor.golden_bytes
        needed = (max(wanted - here, 0) if kept else wanted) + _MARGIN_BYTES
        free = shutil.disk_usage(self._folder.parent).free + (0 if kept else here)
        if free < needed:
            raise DiskFull(
                f"{self._title} needs {needed} bytes of disk and {free} are free",
                hint=f"make room on the file system of {self._folder}",
            )

    async def _fetch_model(self, fetch: Fetch) -> None:
        flavor = self._manifest.flavor
        marks = _Marks(self._checkpoint, flavor.total_bytes)
        await self._receive(self._model_path, flavor.digest, flavor.total_bytes, fetch, marks.passed)
        self._checkpoint("verified")

    async def _fetch_golden(self, fetch: Fetch) -> GoldenSet | None:
        flavor = self._manifest.flavor
        if flavor.golden_digest is None:
            return None
        path = self._slot / GOLDEN
        await self._receive(path, flavor.golden_digest, flavor.golden_bytes, fetch, lambda _: None)
        self._checkpoint("golden-fetched")
        try:
            data = await _in_thread(path.read_bytes)
            return decode_golden(data, default_tolerance=TOLERANCES[flavor.precision])
        except WireError as error:
            raise InstallError(f"the golden set of {self._title} is unusable: {error}") from error

    async def _receive(
        self, path: Path, digest: Digest, total_bytes: int, fetch: Fetch, passed: Callable[[int], None]
    ) -> None:
        """Get one file into its place, verified; a leftover that turns out to be damaged is fetched again once."""
        partial = PartialFile(path, digest=digest, total_bytes=total_bytes)
        resumed = await _in_thread(_keep_sound, partial, path, digest, total_bytes)
        try:
            await self._download(partial, digest, total_bytes, fetch, passed)
        except WireError as error:
            await _in_thread(partial.discard)
            if not resumed:
                raise InstallError(f"{path.name} of {self._title} arrived damaged: {error}") from error
            await self._receive(path, digest, total_bytes, fetch, passed)

    async def _download(
        self, partial: PartialFile, digest: Digest, total_bytes: int, fetch: Fetch, passed: Callable[[int], None]
    ) -> None:
        if partial.is_complete:
            return
        if partial.offset < total_bytes:
            async with AsyncExitStack() as stack:
                pieces = fetch(digest, partial.offset)
                if hasattr(pieces, "aclose"):
                    stack.push_async_callback(pieces.aclose)
                async for piece in pieces:
                    passed(await _in_thread(_append, partial, piece))
        if partial.offset < total_bytes:
            raise FetchInterrupted(f"{self._title}: {partial.offset} of {total_bytes} bytes came, then no more")
        await _in_thread(partial.commit)

    def _activate(self) -> ActiveModel:
        (self._slot / INTENT).replace(self._slot / MANIFEST)
        fsync_folder(self._slot)
        self._checkpoint("manifest-written")
        write_atomic(self._folder / POINTER, encode_pointer(self._pointer))
        self._checkpoint("activated")
        return active_of(self._folder, self._pointer, self._manifest)

    def _give_up(self, error: OSError) -> FetchInterrupted:
        if error.errno not in _NO_ROOM:
            return FetchInterrupted(f"{self._title} could not be written: {error.strerror or error}")
        # A full disk harms all else on the device, so what half arrived gives its room back.
        self._free_slot()
        return DiskFull(
            f"the disk is full: {self._title} was not installed ({error.strerror})",
            hint=f"make room on the file system of {self._folder}",
        )

    def _free_slot(self) -> None:
        # Should it fail, nothing is lost: without a manifest the slot does not count.
        with suppress(OSError):
            clear_slot(self._slot)

    @property
    def _title(self) -> str:
        return f"{self._manifest.model} version {self._manifest.version} ({self._manifest.flavor.name})"


async def _in_thread(step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a step in a thread, to its end even if the installation is cancelled meanwhile.

    A step that went on behind the back of the next installation would write into the same slot.
    """
    running = asyncio.create_task(asyncio.to_thread(step, *args, **kwargs), name="install step")
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


class _Marks:
    """Reports a download's milestones, each once."""

    def __init__(self, checkpoint: Callable[[str], None], total_bytes: int) -> None:
        self._checkpoint = checkpoint
        self._left = [("download-begun", 1), ("download-half", total_bytes // 2), ("downloaded", total_bytes)]

    def passed(self, offset: int) -> None:
        while self._left and offset >= self._left[0][1]:
            self._checkpoint(self._left.pop(0)[0])


def _keep_sound(partial: PartialFile, path: Path, digest: Digest, total_bytes: int) -> bool:
    """Keep what a former attempt left where it can still become the file; whether anything was kept."""
    if partial.is_complete and digest_of_file(path) != digest:
        path.unlink()
    if partial.offset > total_bytes:
        partial.discard()
    return partial.offset > 0


def _append(partial: PartialFile, piece: bytes) -> int:
    partial.append(partial.offset, piece)
    return partial.offset
