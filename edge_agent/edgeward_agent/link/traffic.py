"""How many payload bytes went over the link: artifacts, federated messages, reports."""

from __future__ import annotations


class Traffic:
    """Counts up; `take` empties it into the telemetry. Event loop only."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0

    def take(self) -> tuple[int, int]:
        """Received and sent since the last call."""
        taken = self.received_bytes, self.sent_bytes
        self.received_bytes = self.sent_bytes = 0
        return taken
