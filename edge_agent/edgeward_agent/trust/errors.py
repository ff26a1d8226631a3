"""What trust says no with."""

from __future__ import annotations

from edgeward_agent.errors import Interrupted


class Untrusted(Interrupted):
    """Signed metadata does not cover it, or does not verify.

    Never installed, and tried again: a signature may come, a clock be set, an
    attacker in between go away.
    """


class Expired(Untrusted):
    """Signed metadata verifies, and is too old by what this device takes for now."""
