"""What is known of a device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from datetime import datetime

    from edgeward.protocol.state import Heartbeat, Inventory, ReportedState
    from edgeward_coordinator.identity import IssuedCertificate


class DeviceState(StrEnum):
    """Where a device is in its life, as operators see it."""

    ENROLLED = "enrolled"
    ONLINE = "online"
    OFFLINE = "offline"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """A device that has proved who it is."""

    id: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A new member of the fleet."""

    device_id: str
    group: str
    certificate: IssuedCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One device.

    Attributes:
        labels: Its own, under those that operators set.
        desired_generation: That of its desired state; where `reported` has it too, nothing is pending.
        inventory: None until its first session; likewise `reported` and `heartbeat`.
    """

    id: str
    name: str
    group: str
    labels: Mapping[str, str]
    enrolled_at: datetime
    revoked_at: datetime | None
    last_seen_at: datetime | None
    certificate_not_after: datetime
    desired_generation: int
    inventory: Inventory | None
    reported: ReportedState | None
    heartbeat: Heartbeat | None


def state_of(device: DeviceRecord, *, online: Set[str]) -> DeviceState:
    """The state of a device, given the ids of those that hold a session."""
    if device.revoked_at is not None:
        return DeviceState.REVOKED
    if device.id in online:
        return DeviceState.ONLINE
    return DeviceState.ENROLLED if device.last_seen_at is None else DeviceState.OFFLINE
