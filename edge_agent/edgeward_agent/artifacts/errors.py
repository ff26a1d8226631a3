"""What an installation says no with."""

from __future__ import annotations

from edgeward_agent.errors import Interrupted, Misuse, Refused


class InstallError(Refused):
    """This flavor of this version can't serve here, and trying again alone does not help."""


class FetchInterrupted(Interrupted):
    """The installation stopped midway; what has arrived is kept, and the next attempt goes on from there."""


class DiskFull(FetchInterrupted):
    """There is no room for the model; an attempt succeeds once somebody has made some."""


class StateInUse(Misuse):
    """Another agent works on this state directory."""
