"""How fast downloads may go together: a bucket that fills at the allowed rate. Pure."""

from __future__ import annotations

# What may come at once after a pause, in seconds of the rate.
_BURST_S = 1.0


class Pace:
    """One for all downloads.

    Args:
        bytes_s: The allowed rate; None: as fast as it comes.
        now: Of the monotonic clock.
    """

    def __init__(self, bytes_s: int | None, *, now: float) -> None:
        self._bytes_s = bytes_s
        self._full_at = now

    def take(self, count: int, now: float) -> float:
        """Note that so many bytes came; the seconds to wait before the next are asked for."""
        if self._bytes_s is None:
            return 0.0
        self._full_at = max(self._full_at, now) + count / self._bytes_s
        return max(0.0, self._full_at - now - _BURST_S)
