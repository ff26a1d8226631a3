"""The devices of the fleet: how they become members, what they are and say, how they leave."""

from edgeward_coordinator.fleet.devices import (
    DeviceIdentity,
    DeviceRecord,
    DeviceState,
    Enrolled,
    state_of,
)
from edgeward_coordinator.fleet.enrollment import EnrollmentToken
from edgeward_coordinator.fleet.fleet import Fleet

__all__ = [
    "DeviceIdentity",
    "DeviceRecord",
    "DeviceState",
    "Enrolled",
    "EnrollmentToken",
    "Fleet",
    "state_of",
]
