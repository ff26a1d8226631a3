"""The one error that a decoder of foreign bytes may raise."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes from elsewhere are not what they claim to be; the message says which and how."""
