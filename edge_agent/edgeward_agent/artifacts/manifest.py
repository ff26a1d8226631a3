"""The small file that says what a slot holds, as JSON; pure. A damaged one sends the device to its other slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
from edgeward_agent.artifacts.json_fields import as_object, decode_fields, encode_fields, parse_count, parse_text

SlotName = Literal["a", "b"]

SLOTS: tuple[SlotName, SlotName] = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a slot holds. `serial` orders the installations of one model, newest highest."""

    model: str
    version: int
    flavor: Flavor
    serial: int


def encode_manifest(manifest: Manifest) -> bytes:
    """To JSON."""
    flavor = manifest.flavor
    return encode_fields(
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
    fields = decode_fields(data, "manifest")
    flavor = as_object(fields.get("flavor"), "flavor")
    golden = flavor.get("golden_sha256")
    return Manifest(
        model=parse_model_name(parse_text(fields, "model")),
        version=parse_count(fields, "version"),
        serial=parse_count(fields, "serial"),
        flavor=Flavor(
            name=parse_text(flavor, "name"),
            format=parse_format(parse_text(flavor, "format")),
            precision=parse_precision(parse_text(flavor, "precision")),
            digest=parse_digest(parse_text(flavor, "sha256")),
            total_bytes=parse_count(flavor, "total_bytes"),
            golden_digest=None if golden is None else parse_digest(parse_text(flavor, "golden_sha256")),
            golden_bytes=parse_count(flavor, "golden_bytes"),
            signature=signature_from_json(flavor.get("signature")),
        ),
    )


def other_slot(slot: SlotName) -> SlotName:
    """The one that isn't this."""
    return "b" if slot == "a" else "a"


def parse_slot(value: object) -> SlotName:
    """One of `SLOTS`.

    Raises:
        WireError: It is none.
    """
    for slot in SLOTS:
        if value == slot:
            return slot
    raise WireError(f"no slot is called {value!r}")
