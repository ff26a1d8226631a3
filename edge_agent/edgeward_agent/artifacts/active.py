"""What serves, read from the disk: for every process on the device, whether or not a daemon runs.

    models/<model>/active.json             which slot serves; replacing it is the activation
    models/<model>/refusals.json           what must not serve, and why
    models/<model>/slots/a, slots/b        model.onnx or model.tflite, golden.npz, manifest.json

Nothing here writes. A slot counts only if its manifest can be read and its
model's digest is the manifest's; where the active slot does not count, the other
one is taken, so that a damaged file costs a version and not the device.

For a process that serves: the stamp of the pointer changes with every change of
what is said here, the end of a probation and the coming of a candidate included.
What it has loaded is out of date only if `ActiveModel.generation` (or the one of
`Candidate.active`) is another than before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.digests import digest_of_file
from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_model_name
from edgeward_agent.artifacts.manifest import SLOTS, Manifest, SlotName, decode_manifest, other_slot
from edgeward_agent.artifacts.pointer import Pointer, decode_pointer

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Format, Precision, Signature
    from edgeward.protocol.state import CandidateMode
    from edgeward_agent.artifacts.pointer import Probation

# Tells one pointer from the next without reading it: its file is replaced, never rewritten.
PointerStamp = tuple[int, int, int]

POINTER, MANIFEST, GOLDEN = "active.json", "manifest.json", "golden.npz"
INTENT = "incoming.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveModel:
    """A model that serves: `generation` grows with each activation; `path` is never changed in place.

    `probation` says that it may still be sent back; it comes to None without a new generation.
    """

    model: str
    version: int
    flavor: str
    format: Format
    precision: Precision
    digest: Digest
    path: Path
    golden_path: Path | None
    signature: Signature
    slot: SlotName
    generation: int
    probation: Probation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version beside the one that serves. `active` is what is in its slot, with a `generation` of its own.

    That generation grows with each candidate that is staged, and stays when only `mode` or `share` change.
    """

    active: ActiveModel
    mode: CandidateMode
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What can serve, if anything, and what is wrong with what can't, in words."""

    active: ActiveModel | None
    problems: tuple[str, ...]


def models_on_disk(folder: Path) -> list[str]:
    """The models that take place in `models/`, whether they serve or not."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _is_model_folder(path))


def read_active(folder: Path) -> ActiveModel | None:
    """What the pointer in a model's folder points to, without a look into the model file."""
    try:
        pointer = read_pointer(folder)
        return active_of(folder, pointer, read_manifest(slot_folder(folder, pointer.slot))) if pointer else None
    except (OSError, WireError):
        return None


def read_candidate(folder: Path) -> Candidate | None:
    """The candidate that the pointer in a model's folder names, without a look into the model file."""
    try:
        pointer = read_pointer(folder)
        if pointer is None or pointer.candidate is None:
            return None
        return candidate_of(folder, pointer, read_manifest(slot_folder(folder, pointer.candidate.slot)))
    except (OSError, WireError):
        return None


def resolve_candidate(folder: Path) -> Candidate | None:
    """The candidate, its model's digest verified; None where there is none that is sound. For whoever loads it."""
    try:
        pointer = read_pointer(folder)
        if pointer is None or pointer.candidate is None:
            return None
        return candidate_of(folder, pointer, verify_slot(folder, pointer.candidate.slot))
    except (OSError, WireError):
        return None


def resolve_active(folder: Path) -> Resolved:
    """What can serve from a model's folder: the active slot if it is sound, else the other one.

    Hashes the model file: about a second for a gigabyte, nothing for most.
    """
    problems: list[str] = []
    pointer = None
    try:
        pointer = read_pointer(folder)
    except (OSError, WireError) as error:
        problems.append(f"which slot of {folder.name} serves can't be read: {error}")
    for slot in _candidates(folder, pointer):
        try:
            manifest = verify_slot(folder, slot)
        except (OSError, WireError) as error:
            if pointer is not None and slot == pointer.slot:
                problems.append(f"slot {slot} of {folder.name} is damaged: {error}")
            continue
        serving = pointer
        if serving is None or serving.slot != slot:
            serving = Pointer(slot=slot, former=None, generation=pointer.generation if pointer else manifest.serial)
        return Resolved(active=active_of(folder, serving, manifest), problems=tuple(problems))
    return Resolved(active=None, problems=tuple(problems))


def pointer_stamp(folder: Path) -> PointerStamp | None:
    """Changes with each change of the pointer, not only with activations; None where there is none. A microsecond."""
    try:
        status = (folder / POINTER).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_pointer(folder: Path) -> Pointer | None:
    """The pointer; None where nothing serves.

    Raises:
        WireError: It is damaged.
        OSError: It can't be read.
    """
    try:
        return decode_pointer((folder / POINTER).read_bytes())
    except FileNotFoundError:
        return None


def read_manifest(slot: Path) -> Manifest:
    """The manifest in a slot's folder.

    Raises:
        WireError: It is damaged.
        OSError: There is none, or it can't be read.
    """
    return decode_manifest((slot / MANIFEST).read_bytes())


def verify_slot(folder: Path, slot: SlotName) -> Manifest:
    """Check that a slot can serve.

    Returns:
        Its manifest.

    Raises:
        WireError: The manifest is damaged, or the model's digest is another.
        OSError: A file is missing, or can't be read.
    """
    manifest = read_manifest(slot_folder(folder, slot))
    actual = digest_of_file(model_path(slot_folder(folder, slot), manifest))
    if manifest.model != folder.name:
        raise WireError(f"it holds model {manifest.model!r}")
    if actual != manifest.flavor.digest:
        raise WireError(f"its model has SHA-256 {actual[:12]}…, expected {manifest.flavor.digest[:12]}…")
    return manifest


def slot_folder(folder: Path, slot: SlotName) -> Path:
    """`slots/a` or `slots/b`."""
    return folder / "slots" / slot


def model_path(slot: Path, manifest: Manifest) -> Path:
    """The model file in a slot's folder."""
    return slot / f"model.{manifest.flavor.format}"


def active_of(folder: Path, pointer: Pointer, manifest: Manifest) -> ActiveModel:
    """Join a pointer with the manifest that it points to."""
    slot = slot_folder(folder, pointer.slot)
    flavor = manifest.flavor
    return ActiveModel(
        model=manifest.model,
        version=manifest.version,
        flavor=flavor.name,
        format=flavor.format,
        precision=flavor.precision,
        digest=flavor.digest,
        path=model_path(slot, manifest),
        golden_path=slot / GOLDEN if flavor.golden_digest else None,
        signature=flavor.signature,
        slot=pointer.slot,
        generation=pointer.generation,
        probation=pointer.probation,
    )


def candidate_of(folder: Path, pointer: Pointer, manifest: Manifest) -> Candidate | None:
    """Join a pointer with the manifest of its candidate's slot."""
    candidate = pointer.candidate
    if candidate is None:
        return None
    beside = Pointer(slot=candidate.slot, former=None, generation=manifest.serial)
    return Candidate(active=active_of(folder, beside, manifest), mode=candidate.mode, share=candidate.share)


def _candidates(folder: Path, pointer: Pointer | None) -> list[SlotName]:
    """The slots in the order in which they should be tried; without a pointer the newest installation first."""
    if pointer is not None:
        return [pointer.slot, other_slot(pointer.slot)]
    return sorted(SLOTS, key=lambda slot: _serial(slot_folder(folder, slot)), reverse=True)


def _serial(slot: Path) -> int:
    try:
        return read_manifest(slot).serial
    except (OSError, WireError):
        return -1


def _is_model_folder(path: Path) -> bool:
    try:
        parse_model_name(path.name)
    except WireError:
        return False
    return path.is_dir()
