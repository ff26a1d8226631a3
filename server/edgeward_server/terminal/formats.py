"""Numbers and instants as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = "-"

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_KIB = 1024


def format_bytes(count: float) -> str:
    """As in `512 B`, `113.9 KiB`."""
    if count < _KIB:
        return f"{count:.0f} B"
    power = min(int(math.log(count, _KIB)), len(_UNITS))
    return f"{count / _KIB**power:.1f} {_UNITS[power - 1]}"


def format_latency(seconds: float) -> str:
    """As in `85 µs`, `1.25 ms`, `2.10 s`; `-` where nothing was measured."""
    if math.isnan(seconds) or seconds <= 0:
        return NOTHING
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def format_duration(duration: timedelta) -> str:
    """As in `4.2 s`, `3 min 20 s`, `2 h 5 min`, `12 d 3 h`."""
    seconds = duration.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def format_instant(instant: datetime | None) -> str:
    """In UTC to the second, the same on every terminal."""
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant else NOTHING


def format_age(instant: datetime | None, *, now: datetime) -> str:
    """As in `12.0 s ago`, `in 3 h 0 min`."""
    if instant is None:
        return NOTHING
    passed = now - instant
    return f"{format_duration(passed)} ago" if passed >= timedelta() else f"in {format_duration(-passed)}"


def format_ratio(ratio: float) -> str:
    """An accuracy: `97.5 %`."""
    return f"{ratio * 100:.1f} %"


def format_pairs(pairs: Mapping[str, str]) -> str:
    """Labels: `room=3,site=a`."""
    return ",".join(f"{key}={value}" for key, value in sorted(pairs.items())) or NOTHING
