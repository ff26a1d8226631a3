"""What was refused here or sent back, and why: `refusals.json` in a model's folder; pure.

It outlives restarts, so that a version that failed is not installed again until
the operator decides anew: a refusal holds for the release under which it happened
and for no other. Were it to hold for all older ones too, a coordinator in the
wrong hands could refuse a version for good by naming the highest release that
there is; newer or older, another release is another decision. A damaged file counts as none: the worst that follows
is that a version is tried, checked and refused once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts.json_fields import (
    as_object,
    decode_fields,
    encode_fields,
    parse_count,
    parse_instant,
    parse_text,
)

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward.protocol.digests import Digest

MAX_REFUSALS = 16

_MAX_REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An artifact of a version that must not serve here under this `release`. `at`: wall clock."""

    version: int
    digest: Digest
    release: int
    reason: str
    at: datetime


def with_refusal(refusals: tuple[Refusal, ...], refusal: Refusal) -> tuple[Refusal, ...]:
    """Add one in place of what was said of the same artifact; the newest `MAX_REFUSALS` stay, newest last.

    What was said first under a release is kept: whoever is turned away by a refusal only repeats it.
    """
    if find_refusal(refusals, refusal.version, refusal.digest, release=refusal.release) is not None:
        return refusals
    others = [other for other in refusals if (other.version, other.digest) != (refusal.version, refusal.digest)]
    return (*others, refusal)[-MAX_REFUSALS:]


def find_refusal(refusals: tuple[Refusal, ...], version: int, digest: Digest, *, release: int) -> Refusal | None:
    """Why this artifact must not serve under this release; None where nothing speaks against it."""
    for refusal in refusals:
        if (refusal.version, refusal.digest) == (version, digest) and refusal.release == release:
            return refusal
    return None


def encode_refusals(refusals: tuple[Refusal, ...]) -> bytes:
    """To JSON; reasons are cut to a length that a flash card bears."""
    return encode_fields({"refusals": [_to_json(refusal) for refusal in refusals]})


def decode_refusals(data: bytes) -> tuple[Refusal, ...]:
    """From JSON.

    Raises:
        WireError: They are none.
    """
    items = decode_fields(data, "list of refusals").get("refusals")
    if not isinstance(items, list) or len(items) > MAX_REFUSALS:
        raise WireError("a list of refusals that is none")
    return tuple(_from_json(as_object(item, "refusal")) for item in items)


def _to_json(refusal: Refusal) -> dict[str, Any]:
    return {
        "version": refusal.version,
        "sha256": refusal.digest,
        "release": refusal.release,
        "reason": refusal.reason[:_MAX_REASON_CHARACTERS],
        "at": refusal.at.isoformat(),
    }


def _from_json(fields: dict[str, Any]) -> Refusal:
    return Refusal(
        version=parse_count(fields, "version"),
        digest=parse_digest(parse_text(fields, "sha256")),
        release=parse_count(fields, "release"),
        reason=parse_text(fields, "reason"),
        at=parse_instant(fields, "at"),
    )
