"""Our own small JSON files, read like foreign bytes: a power cut or a failing flash card can leave anything. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from edgeward.protocol.errors import WireError


def encode_fields(fields: dict[str, Any]) -> bytes:
    """To JSON."""
    return json.dumps(fields, indent=1).encode()


def decode_fields(data: bytes, what: str) -> dict[str, Any]:
    """From JSON that must be an object.

    Raises:
        WireError: It is none.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a damaged {what}: {error}") from error
    return as_object(fields, what)


def as_object(value: object, what: str) -> dict[str, Any]:
    """An object inside.

    Raises:
        WireError: It is none.
    """
    if not isinstance(value, dict):
        raise WireError(f"a {what} that is no JSON object")
    return value


def parse_text(fields: dict[str, Any], name: str) -> str:
    """A string.

    Raises:
        WireError: It is none.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise WireError(f"{name!r} is no text")
    return value


def parse_count(fields: dict[str, Any], name: str) -> int:
    """An integer of at least 0.

    Raises:
        WireError: It is none.
    """
    value = fields.get(name)
    if type(value) is not int or value < 0:
        raise WireError(f"{name!r} is no count")
    return value


def parse_ratio(fields: dict[str, Any], name: str) -> float:
    """A number from 0 to 1.

    Raises:
        WireError: It is none.
    """
    value = fields.get(name)
    # Not a number (NaN) is in no range either; True would pass for 1.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise WireError(f"{name!r} is no number from 0 to 1")
    return float(value)


def parse_instant(fields: dict[str, Any], name: str) -> datetime:
    """A point in time with its zone, in UTC.

    Raises:
        WireError: It is none.
    """
    text = parse_text(fields, name)
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise WireError(f"{name!r} is an instant without a zone: {text[:80]!r}")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise WireError(f"{name!r} is no instant: {text[:80]!r}") from error
