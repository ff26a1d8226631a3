"""The two small files that say what a slot holds and which slot serves, as JSON; pure.

They are our own, and yet parsed like foreign bytes: a power cut or a failing
flash card can leave anything in them, and then a `WireError` is what sends the
device to its other slot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward.protocol.model import (
    Flavor,
    parse_format,
    parse_model_name,
    parse_precision,
    signature_from_json,
    signature_to_json,
)

SlotName = Literal["a", "b"]

SLOTS: tuple[SlotName, SlotName] = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a slot holds. `serial` orders the installations of one model, newest highest."""

    model: str
    version: int
    flavor: Flavor
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which slot serves. `former` is the slot that served before; `generation` counts the activations."""

    slot: SlotName
    former: SlotName | None
    generation: int


def encode_manifest(manifest: Manifest) -> bytes:
    """To JSON."""
    flavor = manifest.flavor
    return _encode(
        {
            "model": manifest.model,
            "version": manifest.version,
            "serial": manifest.serial,
            "flavor": {
                "name": flavor.name,
                "format": flavor.format,
                "precision": flavor.precision,
                "sha256": flavor.digest,
                "total_bytes": flavor.total_bytes,
                "golden_sha256": flavor.golden_digest,
                "golden_bytes": flavor.golden_bytes,
                "signature": signature_to_json(flavor.signature),
            },
        }
    )


def decode_manifest(data: bytes) -> Manifest:
    """From JSON.

    Raises:
        WireError: It is no manifest.
    """
    fields = _decode(data, "manifest")
    flavor = fields.get("flavor")
    if not isinstance(flavor, dict):
        raise WireError("a slot's manifest without a flavor")
    golden = flavor.get("golden_sha256")
    return Manifest(
        model=parse_model_name(_text(fields, "model")),
        version=_count(fields, "version"),
        serial=_count(fields, "serial"),
        flavor=Flavor(
            name=_text(flavor, "name"),
            format=parse_format(_text(flavor, "format")),
            precision=parse_precision(_text(flavor, "precision")),
            digest=parse_digest(_text(flavor, "sha256")),
            total_bytes=_count(flavor, "total_bytes"),
            golden_digest=None if golden is None else parse_digest(_text(flavor, "golden_sha256")),
            golden_bytes=_count(flavor, "golden_bytes"),
            signature=signature_from_json(flavor.get("signature")),
        ),
    )


def encode_pointer(pointer: Pointer) -> bytes:
    """To JSON."""
    return _encode({"slot": pointer.slot, "former": pointer.former, "generation": pointer.generation})


def decode_pointer(data: bytes) -> Pointer:
    """From JSON.

    Raises:
        WireError: It is no pointer.
    """
    fields = _decode(data, "pointer to the active slot")
    former = fields.get("former")
    return Pointer(
        slot=_slot(fields.get("slot")),
        former=None if former is None else _slot(former),
        generation=_count(fields, "generation"),
    )


def other_slot(slot: SlotName) -> SlotName:
    """The one that isn't this."""
    return "b" if slot == "a" else "a"


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, indent=1).encode()


def _decode(data: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a damaged {what}: {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"a {what} that is no JSON object")
    return fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise WireError(f"{name!r} is no text")
    return value


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 0:
        raise WireError(f"{name!r} is no count")
    return value


def _slot(value: object) -> SlotName:
    for slot in SLOTS:
        if value == slot:
            return slot
    raise WireError(f"no slot is called {value!r}")
