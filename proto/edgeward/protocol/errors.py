"""The one error that a decoder of foreign bytes may raise, and how the hint of a refusal travels."""

from __future__ import annotations

# Under this key of a call's trailing metadata the coordinator's hint travels beside its message.
HINT_KEY = "edgeward-hint-bin"


class WireError(ValueError):
    """Bytes from elsewhere are not what they claim to be; the message says which and how."""
