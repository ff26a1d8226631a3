"""Durations in seconds on the wire."""

from __future__ import annotations

from datetime import timedelta

from edgeward.protocol.errors import WireError


def duration_from_seconds(seconds: float) -> timedelta:
    """From a number of seconds; whether so long is sane, the domain decides.

    Raises:
        WireError: Not a number, or more than a duration can hold.
    """
    try:
        return timedelta(seconds=seconds)
    except (ValueError, OverflowError) as error:
        raise WireError(f"{seconds} seconds is no duration") from error
