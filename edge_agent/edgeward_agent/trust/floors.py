"""Floors under the versions of signed metadata, and under the clock: pure.

What a device has verified once it never takes an older version of, whatever
became of python-tuf's cached files (a power cut may truncate all of them, and
then python-tuf has nothing to compare with: TUF 1.0.31, 5.4.3, 5.5.5).

A floor belongs to the keys that its role had. Where a key was taken from the
role since, by whoever may sign for that, the floor is gone with it: else one
compromised key could sign version 2^63 and end all updates for ever (a
fast-forward attack: TUF 1.0.31, 5.3.11). Root's own floor never goes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeward_agent.trust.errors import Untrusted

if TYPE_CHECKING:
    from collections.abc import Mapping

# No clock of a device that runs this is truly behind it. Raised with each release.
BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)

ROOT, TIMESTAMP, SNAPSHOT, TARGETS = "root", "timestamp", "snapshot", "targets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The newest version of a role's metadata that was verified, and the ids of the role's keys then."""

    version: int
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """By role; `signed_at` is when the newest verified timestamp was signed, hence a lower bound of now."""

    roles: Mapping[str, Floor] = field(default_factory=dict)
    signed_at: datetime | None = None


def raise_floors(floors: Floors, seen: Mapping[str, Floor], signed_at: datetime | None) -> Floors:
    """The floors after metadata was verified.

    Args:
        floors: Until now.
        seen: What the metadata says of each role; one that is not mentioned keeps its floor.
        signed_at: When the timestamp was signed, where it says so.

    Raises:
        Untrusted: Something is older than its floor: rolled back.
    """
    for role, now in seen.items():
        before = floors.roles.get(role)
        if before is not None and _stands(before, now) and now.version < before.version:
            raise Untrusted(
                f"the coordinator's signed metadata was rolled back: {role} is version {now.version}, and this device "
                f"has verified version {before.version}"
            )
    before = floors.roles.get(TIMESTAMP)
    is_kept = before is None or TIMESTAMP not in seen or _stands(before, seen[TIMESTAMP])
    known = [at for at in (floors.signed_at if is_kept else None, signed_at) if at is not None]
    return Floors(roles={**floors.roles, **seen}, signed_at=max(known, default=None))


def lowest_now(clock: datetime, floors: Floors, *, built_at: datetime = BUILT_AT) -> datetime:
    """What time it is at least: the clock's, unless that is behind what is known to have been."""
    return max(clock, built_at, floors.signed_at or built_at)


def encode_floors(floors: Floors) -> bytes:
    """As a file."""
    roles = {name: {"version": floor.version, "keys": sorted(floor.keys)} for name, floor in floors.roles.items()}
    signed_at = floors.signed_at.isoformat() if floors.signed_at else None
    return json.dumps({"roles": roles, "signed_at": signed_at}, indent=2).encode()


def decode_floors(data: bytes) -> Floors:
    """From a file.

    Raises:
        ValueError: It is damaged.
    """
    try:
        content = json.loads(data)
        signed_at = content["signed_at"]
        return Floors(
            roles={str(name): _decode_floor(floor) for name, floor in content["roles"].items()},
            signed_at=None if signed_at is None else aware_instant(signed_at),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no floors: {error}") from error


def aware_instant(text: str) -> datetime:
    """An ISO 8601 instant; raises `ValueError` for one without a zone."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return instant


def _decode_floor(value: dict[str, Any]) -> Floor:
    return Floor(version=int(value["version"]), keys=frozenset(map(str, value["keys"])))


def _stands(before: Floor, now: Floor) -> bool:
    return before.keys <= now.keys
