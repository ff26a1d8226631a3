"""What a rollout looks like as facts, tables and sentences; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgeward_server.cli.rendering import Facts, ShowInstant, instant_in
from edgeward_server.terminal.formats import NOTHING, format_duration
from edgeward_server.terminal.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Set
    from datetime import datetime

    from edgeward.v1 import deployment_pb2

OVER: Final = frozenset({"succeeded", "rolled_back", "aborted"})
_PHASE_STATES: Final = frozenset({"waiting", "running", "passed", "failed"})
# A device's states by how much somebody who watches wants to see them.
_TELLING: Final = ("failed", "silent", "stuck", "returned", "probation", "updating", "succeeded", "offline")


def rollouts_sheet(rollouts: Iterable[deployment_pb2.Rollout], show: ShowInstant) -> Sheet:
    """The rollouts, one a row."""
    rows = [
        (
            each.id,
            each.group,
            change_in_words(each),
            each.state,
            phase_in_short(each),
            show(instant_in(each, "created_at")),
            each.created_by,
            each.reason,
        )
        for each in rollouts
    ]
    return Sheet(columns=("id", "group", "change", "state", "phase", "since", "by", "reason"), rows=rows)


def rollout_facts(rollout: deployment_pb2.Rollout, show: ShowInstant) -> Facts:
    """One rollout."""
    began, ended = instant_in(rollout, "created_at"), instant_in(rollout, "ended_at")
    return [
        ("rollout", rollout.id),
        ("change", change_in_words(rollout)),
        ("group", f"{rollout.group}, {rollout.group_devices} devices"),
        ("state", rollout.state),
        ("reason", rollout.reason),
        ("phase", phase_in_short(rollout)),
        ("created", f"{show(began)} by {rollout.created_by}"),
        ("changed", show(instant_in(rollout, "changed_at"))),
        ("took", format_duration(ended - began) if began and ended else NOTHING),
    ]


def phases_sheet(rollout: deployment_pb2.Rollout) -> Sheet:
    """The phases, with where their devices are."""
    rows = [
        (
            phase.name,
            phase.mode,
            phase.description,
            phase.state,
            f"{phase.succeeded}/{phase.selected}",
            _elsewhere(phase),
        )
        for phase in rollout.phases
    ]
    return Sheet(columns=("phase", "mode", "selects", "state", ">done", "others"), rows=rows, title="Phases")


def gates_sheet(phase: deployment_pb2.RolloutPhase) -> Sheet:
    """The gates of a phase as they were judged last."""
    rows = [
        (
            gate.name,
            gate.state,
            f"{gate.value:.4g}",
            f"{gate.limit:.4g}",
            f"{gate.evidence:g}/{gate.evidence_needed:g}",
            gate.text,
        )
        for gate in phase.gates
    ]
    return Sheet(
        columns=("gate", "state", ">value", ">limit", ">evidence", "text"), rows=rows, title=f"Gates of {phase.name}"
    )


def rollout_devices_sheet(rollout: deployment_pb2.Rollout, show: ShowInstant) -> Sheet:
    """The devices that were admitted; who needs a look comes first."""
    names = [phase.name for phase in rollout.phases]
    rows = [
        (
            device.name,
            device.device_id,
            names[device.phase] if device.phase < len(names) else str(device.phase),
            device.state,
            show(instant_in(device, "changed_at")),
            device.error,
        )
        for device in devices_by_interest(rollout)
    ]
    return Sheet(columns=("name", "id", "phase", "state", "since", "error"), rows=rows, title="Devices")


def devices_by_interest(rollout: deployment_pb2.Rollout) -> list[deployment_pb2.RolloutDevice]:
    """Failed ones first, those with nothing to say last."""
    order = {state: place for place, state in enumerate(_TELLING)}
    return sorted(rollout.devices, key=lambda device: (order.get(device.state, -1), device.name))


def change_in_words(rollout: deployment_pb2.Rollout) -> str:
    """From which version to which."""
    came_from = str(rollout.from_version) if rollout.from_version else "nothing"
    return f"{rollout.model}:{came_from} → {rollout.to_version}"


def phase_in_short(rollout: deployment_pb2.Rollout) -> str:
    """Which of how many."""
    if rollout.phase >= len(rollout.phases):
        return NOTHING
    return f"{rollout.phases[rollout.phase].name} ({rollout.phase + 1}/{len(rollout.phases)})"


def present_phase(rollout: deployment_pb2.Rollout) -> deployment_pb2.RolloutPhase | None:
    """The one that goes on, or was the last."""
    return rollout.phases[rollout.phase] if rollout.phase < len(rollout.phases) else None


def time_since_start(rollout: deployment_pb2.Rollout, *, now: datetime) -> str:
    """Until its end, where it has one."""
    began = instant_in(rollout, "created_at")
    return format_duration((instant_in(rollout, "ended_at") or now) - began) if began else NOTHING


def news_in_words(before: deployment_pb2.Rollout | None, after: deployment_pb2.Rollout) -> list[str]:
    """What has changed, a line each, for where nothing is drawn anew."""
    lines = []
    if before is None:
        lines.append(f"rollout {after.id}: {change_in_words(after)} in {after.group}")
    # As it came about: a phase passes, the next one begins, devices change, its gates are judged, it fails.
    passed = [number for number, phase in enumerate(after.phases) if phase.state == "passed"]
    others = [number for number in range(len(after.phases)) if number not in passed]
    for number in passed:
        lines += _gate_news(before, after, number) + _phase_news(before, after, number, _PHASE_STATES)
    for number in others:
        lines += _phase_news(before, after, number, _PHASE_STATES - {"failed"})
    lines += _device_news(before, after)
    for number in others:
        lines += _gate_news(before, after, number) + _phase_news(before, after, number, {"failed"})
    if before is None or before.state != after.state:
        lines.append(f"rollout {after.state}" + (f": {after.reason}" if after.reason else ""))
    return lines


def _elsewhere(phase: deployment_pb2.RolloutPhase) -> str:
    counts = (
        (phase.failed, "failed"),
        (phase.on_probation, "on probation"),
        (phase.updating, "updating"),
        (phase.offline, "offline"),
    )
    return ", ".join(f"{count} {where}" for count, where in counts if count)


def _device_news(before: deployment_pb2.Rollout | None, after: deployment_pb2.Rollout) -> list[str]:
    known = {device.device_id: device.state for device in before.devices} if before else {}
    return [
        f"{device.name}: {device.state}" + (f", {device.error}" if device.error else "")
        for device in after.devices
        if known.get(device.device_id) != device.state
    ]


def _gate_news(before: deployment_pb2.Rollout | None, after: deployment_pb2.Rollout, number: int) -> list[str]:
    phase, former = after.phases[number], _phase_before(before, number)
    known = {gate.name: gate.state for gate in former.gates} if former else {}
    return [
        f"{phase.name}, gate {gate.name}: {gate.state}, {gate.text}"
        for gate in phase.gates
        if known.get(gate.name) != gate.state
    ]


def _phase_news(
    before: deployment_pb2.Rollout | None, after: deployment_pb2.Rollout, number: int, states: Set[str]
) -> list[str]:
    phase, former = after.phases[number], _phase_before(before, number)
    is_new = phase.state != (former.state if former else "waiting")
    return [f"phase {phase.name} ({phase.description}): {phase.state}"] if is_new and phase.state in states else []


def _phase_before(before: deployment_pb2.Rollout | None, number: int) -> deployment_pb2.RolloutPhase | None:
    return before.phases[number] if before and number < len(before.phases) else None
