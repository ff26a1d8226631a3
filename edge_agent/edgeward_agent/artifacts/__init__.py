"""Models on the device's disk: resumed downloads, verification, the check, A/B slots, activation, probation, recovery.

`SlotStore` is the writer, one a device; `resolve_active`, `read_active` and
their twins for candidates are for any process. Power may fail at any instruction,
and the device comes up with a model that was verified and checked (`STEPS` names
the instants in between).
"""

from edgeward_agent.artifacts.active import (
    ActiveModel,
    Candidate,
    PointerStamp,
    Resolved,
    models_on_disk,
    pointer_stamp,
    read_active,
    read_candidate,
    resolve_active,
    resolve_candidate,
)
from edgeward_agent.artifacts.check import Check, probe_check
from edgeward_agent.artifacts.errors import (
    BadDelivery,
    DiskFull,
    FetchInterrupted,
    InstallError,
    QuotaExceeded,
    StateInUse,
)
from edgeward_agent.artifacts.pointer import CandidatePointer, Pointer, Probation
from edgeward_agent.artifacts.reception import Fetch
from edgeward_agent.artifacts.refusals import Refusal, find_refusal
from edgeward_agent.artifacts.steps import STEPS
from edgeward_agent.artifacts.store import SlotStore

__all__ = [
    "STEPS",
    "ActiveModel",
    "BadDelivery",
    "Candidate",
    "CandidatePointer",
    "Check",
    "DiskFull",
    "Fetch",
    "FetchInterrupted",
    "InstallError",
    "Pointer",
    "PointerStamp",
    "Probation",
    "QuotaExceeded",
    "Refusal",
    "Resolved",
    "SlotStore",
    "StateInUse",
    "find_refusal",
    "models_on_disk",
    "pointer_stamp",
    "probe_check",
    "read_active",
    "read_candidate",
    "resolve_active",
    "resolve_candidate",
]
