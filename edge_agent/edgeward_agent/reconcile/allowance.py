"""Whether the device's owner allows a download now. Pure; the answer is the reason to wait, in words.

Quiet hours are times of the day as a clock on the wall shows them. Where that
clock is set, or leaps for summer, the next look decides anew: nothing is planned
by it further than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_agent.config import Metered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from edgeward_agent.config import QuietHours, UpdateSettings

_DAY_MINUTES = 24 * 60


def why_wait(settings: UpdateSettings, *, total_bytes: int, is_metered: bool, now: datetime) -> str:
    """Why a download must wait; empty where it may begin or go on.

    Args:
        settings: What the owner set.
        total_bytes: Of the download; 0 where that is not known yet.
        is_metered: Whether the link is metered.
        now: Local time.
    """
    quiet = _why_quiet(settings.quiet_hours, now)
    if quiet or not is_metered or settings.metered is Metered.ALLOW:
        return quiet
    if settings.metered is Metered.SMALL and total_bytes <= settings.metered_max_bytes:
        return ""
    wanting = f"{total_bytes / (1 << 20):.1f} MiB wait" if total_bytes else "downloads wait"
    return f"metered link: {wanting} for an unmetered one"


def _why_quiet(hours: Sequence[QuietHours], now: datetime) -> str:
    minute = now.hour * 60 + now.minute
    end = minute
    # One that begins where another ends prolongs it; more turns than there are hours would be a full day.
    for _ in range(len(hours)):
        here = next((quiet for quiet in hours if end % _DAY_MINUTES in quiet), None)
        if here is None:
            break
        end += (here.end_minute - end) % _DAY_MINUTES or _DAY_MINUTES
    if end == minute:
        return ""
    if end - minute >= _DAY_MINUTES or any(end % _DAY_MINUTES in quiet for quiet in hours):
        return "quiet hours all day"
    return f"quiet hours until {end % _DAY_MINUTES // 60:02d}:{end % 60:02d}"
