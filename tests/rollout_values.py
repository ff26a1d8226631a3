"""Rollouts, evidence and reports as tests need them: everything well, but for what a test says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.state import ModelState, ReportedModel
from edgeward_coordinator.rollouts.evidence import Evidence, ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.phases import Gates, Phase, Plan
from edgeward_coordinator.rollouts.rollout import DeviceState, PhaseRecord, Rollout, RolloutState

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD, NEW, RELEASE = 4, 5, 17


def make_phase(**values: Any) -> Phase:
    """A phase without gates on answers; of `values` those that `Gates` knows go there."""
    gates = {key: values.pop(key) for key in set(values) & set(Gates.__dataclass_fields__)}
    given: dict[str, Any] = {"name": "canary", "share": 0.05} | values
    return Phase(**given, gates=Gates(**({"max_error_ratio": None} | gates)))


def make_evidence(
    devices: dict[DeviceState, int] | None = None,
    *,
    new: VersionEvidence | None = None,
    old: VersionEvidence | None = None,
    shadow: ShadowEvidence | None = None,
) -> Evidence:
    """Evidence; without more, of one device that has the version and answered nothing."""
    return Evidence(
        new=new or VersionEvidence(),
        old=old or VersionEvidence(),
        shadow=shadow or ShadowEvidence(),
        devices={DeviceState.SUCCEEDED: 1} if devices is None else devices,
    )


def make_rollout(
    *phases: Phase,
    state: RolloutState = RolloutState.RUNNING,
    phase: int = 0,
    started_at: datetime | None = START,
    memory: dict[str, object] | None = None,
    ended_at: datetime | None = None,
) -> Rollout:
    """A rollout in one of its phases."""
    phases = phases or (make_phase(), make_phase(name="everyone", share=1.0))
    records = [PhaseRecord() for _ in phases]
    records[phase] = PhaseRecord(started_at=started_at, memory=memory, ended_at=ended_at)
    return Rollout(
        id="rollout-1",
        model="digits",
        group="lab",
        from_version=OLD,
        to_version=NEW,
        plan=Plan(phases=phases),
        plan_toml="",
        state=state,
        reason="",
        phase=phase,
        phases=tuple(records),
        revision=1,
        created_at=START,
        created_by="ada",
        changed_at=START,
    )


def make_report(state: ModelState = ModelState.SERVING, **values: Any) -> ReportedModel:
    """What a device says that was asked for NEW under RELEASE."""
    given: dict[str, Any] = {
        "model": "digits",
        "version": NEW,
        "flavor": "onnx",
        "wanted_version": NEW,
        "release": RELEASE,
    } | values
    return ReportedModel(**given, state=state)


def make_latency(seconds: float, calls: int) -> LatencyHistogram:
    """So many calls that took so long."""
    histogram = LatencyHistogram()
    for _ in range(calls):
        histogram.add(seconds)
    return histogram


def after(**duration: float) -> datetime:
    """A time after START."""
    return START + timedelta(**duration)
