"""How fast a stream must be: slow is allowed, dripping is not."""

from __future__ import annotations

from edgeward_agent.errors import Interrupted


class Pace:
    """Counts what came against the time that was spent waiting for it; pure.

    Only waiting counts. A receiver that itself takes its time, for a slow disk or
    for its owner's bound on the bandwidth, does not blame the sender.
    """

    def __init__(self, *, least_bytes_per_s: float, window_s: float) -> None:
        self._least_bytes_per_s = least_bytes_per_s
        self._window_s = window_s
        self._waited_s = 0.0
        self._received_bytes = 0

    def note(self, received_bytes: int, *, waited_s: float) -> None:
        """A piece came.

        Raises:
            Interrupted: A window has passed with too little in it.
        """
        self._waited_s += waited_s
        self._received_bytes += received_bytes
        if self._waited_s < self._window_s:
            return
        rate = self._received_bytes / self._waited_s
        if rate < self._least_bytes_per_s:
            raise Interrupted(
                f"the coordinator only drips: {rate:.1f} bytes/s over {self._waited_s:.0f} s, and at least "
                f"{self._least_bytes_per_s:.0f} are wanted"
            )
        self._waited_s, self._received_bytes = 0.0, 0
