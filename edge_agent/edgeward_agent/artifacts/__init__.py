"""Models on the device's disk: download with resume, verification, the check, A/B slots, atomic activation, recovery.

`SlotStore` is the writer, one a device; `resolve_active` and `read_active` are
for any process. Power may fail at any instruction, and the device comes up with
a model that was verified and checked (`STEPS` names the instants in between).
"""

from edgeward_agent.artifacts.active import (
    ActiveModel,
    PointerStamp,
    Resolved,
    models_on_disk,
    pointer_stamp,
    read_active,
    resolve_active,
)
from edgeward_agent.artifacts.check import Check, probe_check
from edgeward_agent.artifacts.errors import DiskFull, FetchInterrupted, InstallError, StateInUse
from edgeward_agent.artifacts.installation import STEPS, Fetch
from edgeward_agent.artifacts.store import SlotStore

__all__ = [
    "STEPS",
    "ActiveModel",
    "Check",
    "DiskFull",
    "Fetch",
    "FetchInterrupted",
    "InstallError",
    "PointerStamp",
    "Resolved",
    "SlotStore",
    "StateInUse",
    "models_on_disk",
    "pointer_stamp",
    "probe_check",
    "read_active",
    "resolve_active",
]
