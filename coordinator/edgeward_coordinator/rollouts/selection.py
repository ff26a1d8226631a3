"""Which devices a phase takes: by label, or by share through a stable place, filled up to a count.

A device's place in a rollout is a hash of both ids, so it is the same whoever
asks and whenever: who is in 5 % is in 25 %, and a device that joins late falls
into the phase that its place says. Other rollouts draw other places, so that
not the same devices are always first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from edgeward_coordinator.rollouts.phases import Phase

_PLACE_BITS = 53  # so that the quotient below is exact, and never 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDevice:
    """What selection needs to know of a device of the group."""

    device_id: str
    labels: Mapping[str, str]
    is_online: bool


def place_of(rollout_id: str, device_id: str) -> float:
    """A device's place in [0, 1), uniform over devices.

    >>> place_of("r1", "device-7") == place_of("r1", "device-7") != place_of("r2", "device-7")
    True
    """
    digest = hashlib.sha256(f"{rollout_id}:{device_id}".encode()).digest()
    return float((int.from_bytes(digest[:8]) >> (64 - _PLACE_BITS)) / 2**_PLACE_BITS)


def select(phase: Phase, fleet: Sequence[FleetDevice], *, members: Collection[str], rollout_id: str) -> list[str]:
    """The devices that a phase has admitted or may admit now.

    Args:
        phase: By labels where it has any, else by share and count.
        fleet: The devices of the group that are not revoked.
        members: Whom the rollout has admitted so far. They stay in.
        rollout_id: The rollout's.

    Returns:
        Ids in order, members included.
    """
    chosen = set(members) | {device.device_id for device in fleet if _is_named(phase, device, rollout_id)}
    if not phase.labels:
        chosen |= _fill(phase, fleet, members=members, chosen=chosen, rollout_id=rollout_id)
    return sorted(chosen)


def _is_named(phase: Phase, device: FleetDevice, rollout_id: str) -> bool:
    if phase.labels:
        return phase.labels.items() <= device.labels.items()
    return place_of(rollout_id, device.device_id) < phase.share


def _fill(
    phase: Phase, fleet: Sequence[FleetDevice], *, members: Collection[str], chosen: set[str], rollout_id: str
) -> set[str]:
    """Those of the lowest places that bring a phase up to `phase.devices` devices which were online when admitted.

    Who was admitted as a filler counts for ever, online or not: a canary that went dark
    must not draw the next device, and the next, into the same fate.
    """
    online = {device.device_id for device in fleet if device.is_online}
    counted = {each for each in chosen if each in online or _is_filler(each, phase, members, rollout_id)}
    free = sorted(online - chosen, key=lambda device_id: place_of(rollout_id, device_id))
    return set(free[: max(0, phase.devices - len(counted))])


def _is_filler(device_id: str, phase: Phase, members: Collection[str], rollout_id: str) -> bool:
    return device_id in members and place_of(rollout_id, device_id) >= phase.share
