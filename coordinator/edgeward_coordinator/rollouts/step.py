"""One look at a rollout: where its devices are, whom it admits, what its gates say, what happens next; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward_coordinator.rollouts.decision import decide
from edgeward_coordinator.rollouts.evidence import Evidence
from edgeward_coordinator.rollouts.members import GroupDevice, Member, mode_of, takes_part
from edgeward_coordinator.rollouts.progress import device_state, returning_state
from edgeward_coordinator.rollouts.rollout import DeviceState, RolloutState
from edgeward_coordinator.rollouts.selection import FleetDevice, select
from edgeward_coordinator.rollouts.tally import Answers, add_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set
    from datetime import datetime

    from edgeward_coordinator.rollouts.rollout import Rollout
    from edgeward_coordinator.rollouts.transitions import RolloutEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A rollout, the devices of its group, those that it has admitted, and what those who take part answered."""

    rollout: Rollout
    devices: Mapping[str, GroupDevice]
    online: Set[str]
    members: Mapping[str, Member]
    answers: Answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What has changed: the rollout's gates, members that are elsewhere now; whom to admit; or what happened."""

    rollout: Rollout
    moved: tuple[Member, ...]
    admitted: tuple[Member, ...] = ()
    event: RolloutEvent | None = None
    reason: str = ""


def take_step(situation: Situation, *, now: datetime) -> Step:
    """Look once.

    A step that ends a phase admits nobody: the next one sees what the end has changed.
    """
    rollout = situation.rollout
    moved = _moved(situation, now)
    members = {**situation.members, **{member.device_id: member for member in moved}}
    present = [member for member in members.values() if member.device_id in situation.devices]
    if rollout.state is RolloutState.ROLLING_BACK:
        return _decided(rollout, moved, (), _evidence(rollout, Answers(), present), now)
    counted = [member for member in present if takes_part(rollout, member)]
    admitted = () if rollout.state is RolloutState.PAUSED else _admitted(situation, counted, now)
    return _decided(rollout, moved, admitted, _evidence(rollout, situation.answers, [*counted, *admitted]), now)


def _decided(
    rollout: Rollout, moved: tuple[Member, ...], admitted: tuple[Member, ...], evidence: Evidence, now: datetime
) -> Step:
    decision = decide(rollout, evidence, now=now)
    records = list(rollout.phases)
    records[rollout.phase] = replace(records[rollout.phase], gates=decision.gates, memory=decision.memory)
    return Step(
        rollout=replace(rollout, phases=tuple(records)),
        moved=moved,
        admitted=() if decision.event else admitted,
        event=decision.event,
        reason=decision.reason,
    )


def _moved(situation: Situation, now: datetime) -> tuple[Member, ...]:
    """Members that are elsewhere than they were."""
    found = []
    for member in situation.members.values():
        device = situation.devices.get(member.device_id)
        if device is not None:
            is_online = member.device_id in situation.online
            state, error = _place(situation.rollout, member, device, is_online=is_online, now=now)
            if (state, error) != (member.state, member.error):
                changed_at = member.changed_at if state is member.state else now
                found.append(replace(member, state=state, error=error, changed_at=changed_at))
    return tuple(found)


def _place(
    rollout: Rollout, member: Member, device: GroupDevice, *, is_online: bool, now: datetime
) -> tuple[DeviceState, str]:
    if rollout.state is RolloutState.ROLLING_BACK:
        return returning_state(
            reported=device.reported, to_version=rollout.to_version, is_online=is_online, error=member.error
        )
    if member.release is None:  # it was taken elsewhere meanwhile, and is admitted anew
        return member.state, member.error
    return device_state(
        former=member.state,
        reported=device.reported,
        to_version=rollout.to_version,
        mode=mode_of(rollout, member),
        release=member.release,
        is_online=is_online,
        last_seen=device.last_seen,
        admitted_at=member.admitted_at,
        changed_at=member.changed_at,
        phase=rollout.plan.phases[rollout.phase],
        now=now,
    )


def _admitted(situation: Situation, settled: Iterable[Member], now: datetime) -> tuple[Member, ...]:
    """Whom the present phase selects beside those who do already what it asks."""
    rollout = situation.rollout
    already = {member.device_id for member in settled}
    fleet = [
        FleetDevice(device_id=device_id, labels=device.labels, is_online=device_id in situation.online)
        for device_id, device in situation.devices.items()
    ]
    selected = select(rollout.plan.phases[rollout.phase], fleet, members=already, rollout_id=rollout.id)
    return tuple(
        Member(
            device_id=device_id,
            phase=rollout.phase,
            state=DeviceState.UPDATING if device_id in situation.online else DeviceState.OFFLINE,
            error="",
            admitted_at=now,
            changed_at=now,
            release=None,
        )
        for device_id in selected
        if device_id not in already
    )


def _evidence(rollout: Rollout, answers: Answers, members: list[Member]) -> Evidence:
    bases = [member.baseline for member in members if member.baseline is not None]
    new, old, shadow = add_up(answers, bases, rollout=rollout)
    return Evidence(new=new, old=old, shadow=shadow, devices=Counter(member.state for member in members))
