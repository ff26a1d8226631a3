"""A model made from one that is here and a patch: which patch, and the way from its bytes to the verified target.

A patch only ever saves bytes. Its result counts if it has the digest that was
signed for the target, and whatever is wrong with a patch ends in the download of
the whole file.

Beside the model, the slot that is being filled may hold `patch-<digest>` (what
arrived of a patch), `base-<digest>` (the model that was in the slot before,
where the patch needs that one) and `whole-only` (a patch has failed here).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward.durable import PartialFile, fsync_folder
from edgeward.protocol.digests import Digest, digest_of_file
from edgeward_agent.artifacts.active import model_path, read_active
from edgeward_agent.artifacts.slot_files import read_finished, read_intent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.targets import PatchOffer

_PATCH, _BASE, _WHOLE_ONLY = "patch-", "base-", "whole-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """An offer that fits what is here. `base` is the file that it starts from."""

    offer: PatchOffer
    base: Path


def choose_patch(
    offers: Iterable[PatchOffer],
    bases: Mapping[Digest, Path],
    *,
    missing_bytes: int,
    missing_of: Callable[[PatchOffer], int],
) -> Patch | None:
    """The offer that needs the fewest bytes, if they are fewer than those that the whole file still needs.

    Args:
        offers: What there is.
        bases: The models that are here, by digest.
        missing_bytes: What has not arrived of the whole file.
        missing_of: What has not arrived of a patch.
    """
    usable = [offer for offer in offers if offer.base_digest in bases and missing_of(offer) < missing_bytes]
    if not usable:
        return None
    best = min(usable, key=lambda offer: (missing_of(offer), offer.digest))
    return Patch(offer=best, base=bases[best.base_digest])


def find_bases(folder: Path, slot: Path) -> dict[Digest, Path]:
    """The models of a model's folder that a patch could start from; the one that serves before what is in `slot`."""
    bases = {Digest(path.name.removeprefix(_BASE)): path for path in slot.glob(f"{_BASE}*")}
    former = read_finished(slot) or read_intent(slot)
    if former is not None and model_path(slot, former).exists():
        bases[former.flavor.digest] = model_path(slot, former)
    active = read_active(folder)
    if active is not None:
        bases[active.digest] = active.path
    return bases


def patch_path(slot: Path, offer: PatchOffer) -> Path:
    """Where a patch is received."""
    return slot / f"{_PATCH}{offer.digest}"


def missing_of(slot: Path, offer: PatchOffer) -> int:
    """How many bytes of a patch have not arrived in a slot."""
    return PartialFile(patch_path(slot, offer), digest=offer.digest, total_bytes=offer.total_bytes).missing_bytes


def keep_base(slot: Path, patch: Patch) -> Patch:
    """Give the base a name of its own where it lies in the slot that is about to be cleared."""
    name = f"{_BASE}{patch.offer.base_digest}"
    if patch.base.parent != slot or patch.base.name == name:
        return patch
    patch.base.replace(slot / name)
    fsync_folder(slot)
    return replace(patch, base=slot / name)


def forbid_patches(slot: Path) -> None:
    """The rest of this installation takes the whole file."""
    (slot / _WHOLE_ONLY).touch()


def are_patches_forbidden(slot: Path) -> bool:
    """Whether a patch has failed in this installation."""
    return (slot / _WHOLE_ONLY).exists()


def sweep_patches(slot: Path, *, keep: Patch | None = None) -> None:
    """Remove what belongs to patches, but for one of them."""
    kept = set() if keep is None else {keep.base.name, patch_path(slot, keep.offer).name}
    for path in slot.iterdir() if slot.is_dir() else ():
        if path.name.startswith((_PATCH, _BASE)) and path.name.removesuffix(".part") not in kept:
            path.unlink()


def end_patching(slot: Path) -> None:
    """The model is there, whichever way it came."""
    sweep_patches(slot)
    (slot / _WHOLE_ONLY).unlink(missing_ok=True)


def apply_verified(patch: Patch, *, slot: Path, target: Path, flavor: Flavor) -> str:
    """Make the target and put it in its place, if its digest is the flavor's.

    Returns:
        What is wrong with the patch; nothing once the target is in its place, durable.

    Raises:
        OSError: The disk is full, or fails.
    """
    made = slot / f".{target.name}.patched"
    try:
        problem = _apply(patch.base, patch_path(slot, patch.offer), made, max_bytes=flavor.total_bytes)
        if problem:
            return problem
        actual = digest_of_file(made)
        if actual != flavor.digest:
            return f"it makes a file with SHA-256 {actual[:12]}…, expected {flavor.digest[:12]}…"
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(target)
        fsync_folder(slot)
        return ""
    finally:
        made.unlink(missing_ok=True)


def is_base_sound(patch: Patch) -> bool:
    """Whether the base is what the patch was made from."""
    return digest_of_file(patch.base) == patch.offer.base_digest


def _apply(base: Path, patch: Path, out: Path, *, max_bytes: int) -> str:
    try:
        # numpy and zstandard: only a device that finds a patch pays for them.
        from edgeward_compression.patches import PatchError, apply_patch
    except ImportError as error:
        return f"this device can apply none: {error}"
    try:
        apply_patch(base, patch, out, max_bytes=max_bytes)
    except PatchError as error:
        return str(error)
    except MemoryError:
        return "there is not enough memory to apply it"
    return ""
