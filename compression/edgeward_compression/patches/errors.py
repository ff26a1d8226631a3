"""The one error of this package."""

from __future__ import annotations

from edgeward.protocol.errors import WireError


class PatchError(WireError):
    """The bytes are no patch for this base, or no patch can be made; the message says why."""
