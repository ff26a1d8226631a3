"""Where one device is in a rollout, from what it last reported and when it was last heard of.

The device is believed, whatever it was before: one that had succeeded and says
that it went back has failed. A report counts for the release under which the
device was asked only, so that an old attempt at the same version says nothing
about this one. Who was away before it was asked, or waits for a time or a link
that its owner allows, is OFFLINE: it holds nobody up and follows. Who took the
version and then fell silent, or is heard of and does not get there, has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgeward.protocol.state import ModelState
from edgeward_coordinator.rollouts.rollout import DeviceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward.protocol.state import ReportedModel
    from edgeward_coordinator.rollouts.phases import Mode, Phase

_STATE_OF: Final[Mapping[ModelState, DeviceState]] = {
    ModelState.PROBATION: DeviceState.PROBATION,
    ModelState.SERVING: DeviceState.SUCCEEDED,
}
# Devices that have taken the version, and have not said that they failed.
_TOOK_IT: Final = frozenset({DeviceState.PROBATION, DeviceState.SUCCEEDED, DeviceState.SILENT, DeviceState.STUCK})


def device_state(
    *,
    former: DeviceState,
    reported: ReportedModel | None,
    to_version: int,
    mode: Mode,
    release: int,
    is_online: bool,
    last_seen: datetime | None,
    admitted_at: datetime,
    changed_at: datetime,
    phase: Phase,
    now: datetime,
) -> tuple[DeviceState, str]:
    """Where a device is now.

    Args:
        former: Where it was; UPDATING for one that is admitted while it is online, else OFFLINE.
        reported: What it last said of the model.
        to_version: What it should have, served or as a candidate.
        mode: How: "serve", "shadow" or "ab".
        release: Under which it was asked.
        is_online: Whether it holds a session.
        last_seen: When it was last heard of.
        admitted_at: When the rollout admitted it.
        changed_at: When it came to where it was.
        phase: Whose time-outs count.
        now: The time.

    Returns:
        The state, and the reason in words where it needs one.
    """
    state, error = _said(reported, to_version=to_version, mode=mode, release=release)
    if state in {DeviceState.FAILED, DeviceState.OFFLINE}:
        return state, error
    if not is_online:
        return _away(former, state, heard_at=max(last_seen or admitted_at, admitted_at), phase=phase, now=now)
    if state is DeviceState.SUCCEEDED:
        return state, ""
    return _on_its_way(former, state, changed_at=changed_at, phase=phase, now=now)


def returning_state(
    *, reported: ReportedModel | None, to_version: int, is_online: bool, error: str
) -> tuple[DeviceState, str]:
    """Where a device is on its way back, once its assignment is gone: RETURNED, UPDATING, or OFFLINE while it is away.

    It has returned when the new version neither serves nor runs beside nor is on its way.
    `error`, why it had failed, stays with it.
    """
    candidate = reported.candidate.version if reported is not None and reported.candidate is not None else None
    if reported is None or to_version not in {reported.version, reported.wanted_version, candidate}:
        return DeviceState.RETURNED, error
    return (DeviceState.UPDATING if is_online else DeviceState.OFFLINE), error


def _said(
    reported: ReportedModel | None, *, to_version: int, mode: Mode, release: int
) -> tuple[DeviceState | None, str]:
    """What the device says of this attempt; None: nothing yet."""
    if reported is None or reported.release != release:
        return None, ""
    if mode != "serve":
        candidate = reported.candidate
        if candidate is None or candidate.version != to_version:
            return DeviceState.UPDATING, ""
        return _state_of(candidate.state, candidate.error, is_there=True)
    is_there = reported.version == to_version
    if not is_there and reported.wanted_version != to_version:
        return DeviceState.UPDATING, ""
    return _state_of(reported.state, reported.error, is_there=is_there)


def _state_of(state: ModelState, error: str, *, is_there: bool) -> tuple[DeviceState, str]:
    if state is ModelState.FAILED:
        return DeviceState.FAILED, error or "the device gave no reason"
    if state is ModelState.WAITING:
        return DeviceState.OFFLINE, f"waiting: {error or 'its owner allows no update now'}"
    return (_STATE_OF.get(state, DeviceState.UPDATING) if is_there else DeviceState.UPDATING), ""


def _away(
    former: DeviceState, said: DeviceState | None, *, heard_at: datetime, phase: Phase, now: datetime
) -> tuple[DeviceState, str]:
    if said is None and former not in _TOOK_IT:
        # No word of this attempt: whether it was asked before it left, nobody knows.
        return DeviceState.OFFLINE, ""
    if now - heard_at >= phase.silence:
        return DeviceState.SILENT, f"took the version, and was last heard of at {heard_at:%Y-%m-%d %H:%M:%S} UTC"
    return said or former, ""


def _on_its_way(
    former: DeviceState, said: DeviceState | None, *, changed_at: datetime, phase: Phase, now: datetime
) -> tuple[DeviceState, str]:
    state = said or DeviceState.UPDATING
    # Once stuck it has to arrive, or to say that it failed: a later step that hangs too is no new chance.
    if former is DeviceState.STUCK or (former is state and now - changed_at >= phase.device_timeout):
        step = "on probation" if state is DeviceState.PROBATION else "on its way"
        return DeviceState.STUCK, f"is heard of, and was {step} for {phase.device_timeout} or longer"
    return state, ""
