"""The agent's configuration: `agent.toml` in the state directory, all of it optional.

    heartbeat_s = 30
    report_interval_s = 60
    runtimes = ["tflite"]
    [labels]
    site = "hall-3"
    [node_config]
    data-dir = "/var/lib/edgeward-agent/data"
    [backoff]
    maximum_s = 60
    [updates]
    quiet_hours = ["08:00-18:00"]
    metered = "small"
    metered_max_bytes = 1_000_000
    bandwidth_bytes_s = 250_000
    [models]
    max_bytes = 500_000_000

The command line overrides it. What is unknown or of another type is an error
that names the key: a device that silently ignores a misspelt bound is one that
nobody notices until it matters.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgeward.protocol.state import ConfigValue

_DAY_MINUTES = 24 * 60

RUNTIME_CHOICES = ("onnx", "tflite", "onnxruntime", "ai-edge-litert", "tflite-runtime")


class Metered(StrEnum):
    """What may be downloaded while the link is metered."""

    ALLOW = "allow"
    SMALL = "small"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """A part of each day in local time, in minutes since midnight; one that ends before it begins wraps around."""

    start_minute: int
    end_minute: int

    def __contains__(self, minute: int) -> bool:
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """When and how models may be downloaded. What needs no download (a roll-back) never waits for any of it."""

    quiet_hours: tuple[QuietHours, ...] = ()
    """Times of the day ("08:00-18:00", local) in which nothing is downloaded: a machine's shift, a shop's hours."""

    metered: Metered = Metered.ALLOW
    """What may be downloaded while the link is metered (`edgeward-agent link metered` says that it is): everything,
    what is at most `metered_max_bytes`, or nothing. By default everything, since most links are not."""

    metered_max_bytes: int = 1 << 20
    """Bytes of one download that a metered link bears where `metered` is "small": a patch, and hardly a model."""

    bandwidth_bytes_s: int | None = None
    """Bytes a second that downloads of models may take together; by default what the link gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that may be set."""

    heartbeat: timedelta | None = None
    """Seconds between heartbeats; by default what the coordinator asks for, since it pays for them."""

    report_interval: timedelta = timedelta(seconds=60)
    """Seconds between uploads of telemetry. A minute keeps a fleet's pictures fresh and a radio mostly asleep."""

    resource_interval: timedelta = timedelta(seconds=300)
    """Seconds between samples of memory, CPU and disk: some 50 bytes each in the outbox."""

    outbox_max_bytes: int = 64 << 20
    """Bytes that telemetry may take on disk while there is no network; past it the least important goes first."""

    runtimes: tuple[str, ...] | None = None
    """Formats ("onnx", "tflite") or runtimes ("onnxruntime", "ai-edge-litert", "tflite-runtime") that may be used;
    by default all that are installed. A device with both may want only the lighter one in its memory."""

    load_models: bool = True
    """Whether the daemon holds what serves in its own memory, loaded and warm. Processes that predict load it for
    themselves; a device where only they do can save the daemon's copy and its runtime (13 to 31 MiB)."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of this device, beside those given at enrollment."""

    node_config: Mapping[str, ConfigValue] = field(default_factory=dict)
    """What training code reads as `context.node_config`: where the data of this device lies, which part it is."""

    worker_memory_bytes: int | None = None
    """Bytes of address space that training code may take; by default no bound, since libraries such as torch reserve
    gigabytes that they never touch."""

    backoff: BackoffLimits = field(default_factory=BackoffLimits)
    """Seconds between attempts to reach the coordinator, and between attempts at one model."""

    updates: UpdateSettings = field(default_factory=UpdateSettings)
    """When and how models may be downloaded."""

    models_max_bytes: int | None = None
    """Bytes of disk that all models may take together, the former version of each included (some twice their size);
    by default the disk is the bound."""

    refused_retry: timedelta = timedelta(minutes=5)
    """Seconds until a device that was refused (revoked, unknown) asks again: soon enough for an operator who has
    mended it, seldom enough not to be a burden."""

    shutdown_grace: timedelta = timedelta(seconds=10)
    """Seconds that stopping may take, so that a supervisor's patience (systemd: 90 s) is never tried."""


def load_config(path: Path) -> AgentConfig:
    """Read the file; without one, the defaults.

    Raises:
        Misuse: It can't be read, or says something that can't be.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return AgentConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path} can't be read: {error}") from error
    return parse_config(text, source=str(path))


def parse_config(text: str, *, source: str = "agent.toml") -> AgentConfig:
    """From TOML.

    Raises:
        Misuse: With the key and what it takes.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misuse(f"{source} is no TOML: {error}") from error
    changes: dict[str, Any] = {}
    for key, value in content.items():
        if key not in _KEYS:
            raise Misuse(f"{source} has an unknown key {key!r}", hint=f"known are {', '.join(sorted(_KEYS))}")
        name, read = _KEYS[key]
        try:
            changes[name] = read(value)
        except _TableError as error:
            raise Misuse(f"{source}: {key}.{error}") from error
        except ValueError as error:
            raise Misuse(f"{source}: {key!r} takes {error}, not {value!r}") from error
    return replace(AgentConfig(), **changes)


def parse_assignments(texts: list[str], *, what: str) -> dict[str, str]:
    """`["a=1", "b=x"]` from a command line to a mapping.

    Raises:
        Misuse: Without a `=`, or without a name.
    """
    parsed = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise Misuse(f"{what} takes NAME=VALUE, not {text!r}")
        parsed[name.strip()] = value
    return parsed


def parse_node_value(text: str) -> ConfigValue:
    """A value from a command line, as TOML would read it where it can, else as text.

    >>> parse_node_value("3"), parse_node_value("true"), parse_node_value("/data")
    (3, True, '/data')
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = table["value"] if len(table) == 1 else text
    return value if isinstance(value, str | int | float | bool) else text


class _TableError(ValueError):
    """A problem with one key of a table, in words that name it."""


def _table(value: object, keys: Mapping[str, tuple[str, Callable[[object], object]]]) -> dict[str, Any]:
    """The values of a table by their fields."""
    if not isinstance(value, dict):
        raise ValueError(f"a table of {', '.join(sorted(keys))}")  # noqa: TRY004 - a problem with a value
    read: dict[str, Any] = {}
    for key, item in value.items():
        if key not in keys:
            raise _TableError(f"{key} is unknown; known are {', '.join(sorted(keys))}")
        name, parse = keys[key]
        try:
            read[name] = parse(item)
        except ValueError as error:
            raise _TableError(f"{key} takes {error}, not {item!r}") from error
    return read


def _seconds(value: object) -> timedelta:
    # A bool is an int to Python, and no duration.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        raise ValueError("a number of seconds above 0")
    return timedelta(seconds=value)


def _bytes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("a whole number of bytes above 0")
    return value


def _runtimes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(item not in RUNTIME_CHOICES for item in value):
        raise ValueError(f"a list of {', '.join(RUNTIME_CHOICES)}")
    return tuple(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - every problem with a value is one to the caller
    return value


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or any(not isinstance(item, str) for item in value.values()):
        raise ValueError("a table of texts")
    return value


def _node_config(value: object) -> dict[str, ConfigValue]:
    if not isinstance(value, dict) or any(not isinstance(item, str | int | float | bool) for item in value.values()):
        raise ValueError("a table of texts, numbers and booleans")
    return value


def _backoff(value: object) -> BackoffLimits:
    known = {item.name for item in fields(BackoffLimits)}
    if not isinstance(value, dict) or not set(value) <= known:
        raise ValueError(f"a table of {', '.join(sorted(known))}")
    limits = BackoffLimits(**{name: _seconds(item).total_seconds() for name, item in value.items()})
    if limits.initial_s > limits.maximum_s:
        raise ValueError("initial_s up to maximum_s")
    return limits


def _quiet_hours(value: object) -> tuple[QuietHours, ...]:
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        raise ValueError('a list of times such as "22:00-06:00"')
    return tuple(_hours(item) for item in value)


def _hours(text: str) -> QuietHours:
    start, dash, end = text.partition("-")
    minutes = [_minute(part.strip()) for part in (start, end)]
    if not dash or None in minutes or minutes[0] == minutes[1] or minutes[0] == _DAY_MINUTES:
        raise ValueError('a list of times such as "22:00-06:00"')
    return QuietHours(start_minute=minutes[0] or 0, end_minute=minutes[1] or 0)


def _minute(text: str) -> int | None:
    """Of the day; midnight at its end is 24:00."""
    hours, colon, minutes = text.partition(":")
    if not colon or not (hours + minutes).isascii() or not hours.isdigit() or not minutes.isdigit():
        return None
    minute = int(hours) * 60 + int(minutes)
    return minute if len(minutes) == 2 and int(minutes) < 60 and minute <= _DAY_MINUTES else None


def _metered(value: object) -> Metered:
    for choice in Metered:
        if value == choice.value:
            return choice
    raise ValueError(f"one of {', '.join(Metered)}")


def _updates(value: object) -> UpdateSettings:
    return UpdateSettings(**_table(value, _UPDATE_KEYS))


def _models(value: object) -> int | None:
    maximum: int | None = _table(value, {"max_bytes": ("max_bytes", _bytes)}).get("max_bytes")
    return maximum


_UPDATE_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "quiet_hours": ("quiet_hours", _quiet_hours),
    "metered": ("metered", _metered),
    "metered_max_bytes": ("metered_max_bytes", _bytes),
    "bandwidth_bytes_s": ("bandwidth_bytes_s", _bytes),
}

_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "heartbeat_s": ("heartbeat", _seconds),
    "report_interval_s": ("report_interval", _seconds),
    "resource_interval_s": ("resource_interval", _seconds),
    "outbox_max_bytes": ("outbox_max_bytes", _bytes),
    "runtimes": ("runtimes", _runtimes),
    "load_models": ("load_models", _boolean),
    "labels": ("labels", _labels),
    "node_config": ("node_config", _node_config),
    "worker_memory_bytes": ("worker_memory_bytes", _bytes),
    "backoff": ("backoff", _backoff),
    "updates": ("updates", _updates),
    "models": ("models_max_bytes", _models),
    "refused_retry_s": ("refused_retry", _seconds),
    "shutdown_grace_s": ("shutdown_grace", _seconds),
}
