"""What signed metadata says of one artifact: enough for a device to decide without asking anybody.

A target's path is `models/<model>/<version>/<flavor>`, so that a role may be
bound to a prefix of models. Length and SHA-256 are the target's own; the rest is
its `custom` object, under the key `edgeward`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward.protocol.model import (
    MAX_ITEMS,
    Flavor,
    parse_format,
    parse_precision,
    signature_from_json,
    signature_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.digests import Digest

# Of the timestamp's signed part: when it was signed (ISO 8601), a lower bound for the clocks of devices.
SIGNED_AT_FIELD = "x-edgeward-signed-at"

_KEY = "edgeward"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchOffer:
    """Bytes that make the target of an artifact that a device may have."""

    base_digest: Digest
    digest: Digest
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTarget:
    """One flavor of one version as it was signed.

    `runtimes` are the least versions of the runtimes that can run it (one of
    them suffices; empty: any of its format), `memory_bytes` what a device must
    have free to load it (0: not known).
    """

    model: str
    version: int
    flavor: Flavor
    runtimes: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    patches: tuple[PatchOffer, ...] = ()


def target_path(model: str, version: int, flavor: str) -> str:
    """The path under which a flavor is signed.

    >>> target_path("digits", 3, "onnx-int8")
    'models/digits/3/onnx-int8'
    """
    return f"models/{model}/{version}/{flavor}"


def custom_of_target(target: SignedTarget) -> dict[str, Any]:
    """The target's `custom` object."""
    flavor = target.flavor
    return {
        _KEY: {
            "model": target.model,
            "version": target.version,
            "flavor": flavor.name,
            "format": flavor.format,
            "precision": flavor.precision,
            "golden_sha256": flavor.golden_digest,
            "golden_bytes": flavor.golden_bytes,
            "signature": signature_to_json(flavor.signature),
            "runtimes": dict(target.runtimes),
            "memory_bytes": target.memory_bytes,
            "patches": [
                {"base_sha256": patch.base_digest, "sha256": patch.digest, "bytes": patch.total_bytes}
                for patch in target.patches
            ],
        }
    }


def target_from_custom(path: str, *, sha256: str, total_bytes: int, custom: object) -> SignedTarget:
    """Read a target that was verified.

    Args:
        path: Under which it is signed.
        sha256: Its digest.
        total_bytes: Its length.
        custom: Its `custom` object.

    Raises:
        WireError: It is no target of ours, or its path is another's.
    """
    fields = _object(_object(custom, "custom").get(_KEY), _KEY)
    golden = fields.get("golden_sha256")
    target = SignedTarget(
        model=_text(fields, "model"),
        version=_count(fields, "version"),
        flavor=Flavor(
            name=_text(fields, "flavor"),
            format=parse_format(_text(fields, "format")),
            precision=parse_precision(_text(fields, "precision")),
            digest=parse_digest(sha256),
            total_bytes=total_bytes,
            golden_digest=None if golden is None else parse_digest(_text(fields, "golden_sha256")),
            golden_bytes=_count(fields, "golden_bytes"),
            signature=signature_from_json(fields.get("signature")),
        ),
        runtimes={name: _text(fields["runtimes"], name) for name in _object(fields.get("runtimes"), "runtimes")},
        memory_bytes=_count(fields, "memory_bytes"),
        patches=_patches(fields.get("patches")),
    )
    if target_path(target.model, target.version, target.flavor.name) != path:
        raise WireError(f"the target {path[:200]!r} describes another one")
    return target


def _patches(value: object) -> tuple[PatchOffer, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise WireError("the patches of a target are a list")
    offers = [_object(item, "patch") for item in value]
    return tuple(
        PatchOffer(
            base_digest=parse_digest(_text(offer, "base_sha256")),
            digest=parse_digest(_text(offer, "sha256")),
            total_bytes=_count(offer, "bytes"),
        )
        for offer in offers
    )


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"{what!r} of a target is no object")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise WireError(f"{name!r} of a target is no text")
    return value


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 0:
        raise WireError(f"{name!r} of a target is no count")
    return value
