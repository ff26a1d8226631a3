"""What an operator types for values, read purely: durations, pairs, model references, configuration values."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from datetime import timedelta

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """`version` is 0 where the newest is meant."""

    name: str
    version: int


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `1h30m`, `30d`.

    >>> parse_duration("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        ValueError: Something else, or longer than a century.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text[:40]!r} is no duration; write 90s, 15m, 1h30m or 30d")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        duration = timedelta.max
    if duration > _LONGEST:
        raise ValueError(f"{text[:40]!r} is longer than a century")
    return duration


def parse_positive_duration(text: str) -> timedelta:
    """A duration that is not nothing.

    Raises:
        ValueError: It is, or is no duration.
    """
    duration = parse_duration(text)
    if not duration:
        raise ValueError("a duration of nothing; write 90s, 15m, 1h30m or 30d")
    return duration


def parse_pair(text: str) -> tuple[str, str]:
    """Read `key=value`; only the first `=` counts, and the value may be empty.

    Raises:
        ValueError: No `=`, or nothing before it.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"{text[:80]!r} is no pair; write KEY=VALUE")
    return key, value


def parse_model_reference(text: str) -> ModelReference:
    """Read `NAME` or `NAME:VERSION`.

    Raises:
        ValueError: No name, or a version that is no number from 1 on.
    """
    name, separator, version = text.partition(":")
    is_number = version.isascii() and version.isdigit() and 0 < int(version[:11]) < 1 << 32
    if not name or (separator and not is_number):
        raise ValueError(f"{text[:80]!r} names no model; write NAME or NAME:VERSION, as in digits:3")
    return ModelReference(name=name, version=int(version) if separator else 0)


def as_toml_value(text: str) -> str:
    """What a user typed as the value of a run's configuration, as a TOML value: what is none becomes a string.

    >>> as_toml_value("0.1"), as_toml_value("true"), as_toml_value("fedavg")
    ('0.1', 'true', '"fedavg"')
    """
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        document = {}
    return text if set(document) == {"value"} else json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
