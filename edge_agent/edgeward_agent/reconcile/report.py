"""What a device says it runs, from what it knows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.state import ModelState, ReportedCandidate, ReportedModel, ReportedState
from edgeward_agent.artifacts import find_refusal
from edgeward_agent.reconcile.decision import wanted_candidate, wanted_flavor, why_candidate_waits
from edgeward_agent.reconcile.rests import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.state import DesiredCandidate, DesiredModel, DesiredState, RuntimeInfo
    from edgeward_agent.artifacts import ActiveModel, Candidate
    from edgeward_agent.reconcile.decision import Observed
    from edgeward_agent.reconcile.rests import Rest, Rests

_STATE_OF_REST = {
    Cause.NETWORK: ModelState.FETCHING,
    Cause.DEVICE: ModelState.FAILED,
    Cause.OWNER: ModelState.WAITING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The step that is being taken for a model: a version FETCHING, then CHECKING."""

    version: int
    state: ModelState


@dataclass(frozen=True, slots=True, kw_only=True)
class _Knowledge:
    observed: Observed
    rests: Rests
    runtimes: Mapping[Format, RuntimeInfo]
    busy: Mapping[str, Busy]


def describe_state(
    desired: DesiredState | None,
    observed: Observed,
    rests: Rests,
    *,
    runtimes: Mapping[Format, RuntimeInfo],
    busy: Mapping[str, Busy],
    reached: int,
) -> ReportedState:
    """Each desired model in turn, then what serves besides.

    Args:
        desired: What should run; None: never told.
        observed: What is here.
        rests: What is left alone, and why.
        runtimes: The runtime for each format that this device can run.
        busy: What is being installed at this moment, by model.
        reached: The newest generation that was acted on in full.
    """
    known = _Knowledge(observed=observed, rests=rests, runtimes=runtimes, busy=busy)
    wanted = {model.model: model for model in desired.models} if desired else {}
    models = [_describe(model, known) for model in wanted.values()]
    models += [
        _serving(active, known, wanted_version=active.version if desired is None else 0)
        for name, active in observed.installed.items()
        if name not in wanted
    ]
    return ReportedState(generation=reached, models=tuple(models))


def _describe(model: DesiredModel, known: _Knowledge) -> ReportedModel:
    active = known.observed.installed.get(model.model)
    state, error = _progress(model, active, known)
    return ReportedModel(
        model=model.model,
        version=active.version if active else 0,
        flavor=active.flavor if active else "",
        state=state,
        wanted_version=model.version,
        runtime=_runtime_name(active, known),
        error=error,
        candidate=_describe_candidate(model, model.candidate, known) if model.candidate else None,
        release=model.release,
    )


def _progress(model: DesiredModel, active: ActiveModel | None, known: _Knowledge) -> tuple[ModelState, str]:
    busy = known.busy.get(model.model)
    if busy is not None and busy.version == model.version:
        return busy.state, ""
    if wanted_flavor(model, known.observed, formats=known.runtimes) is not None:
        return _state_of(known.rests.of(model.model, model.version))
    error = _why_refused(model, model.version, model.flavors, known)
    if active is not None and active.version == model.version:
        # What is said of better flavors that were refused explains why this one serves.
        return _state_in_service(active), error
    return ModelState.FAILED, error or _why_unfit(model.version, model.flavors, known)


def _describe_candidate(model: DesiredModel, wanted: DesiredCandidate, known: _Knowledge) -> ReportedCandidate:
    present = known.observed.candidates.get(model.model)
    state, error = _candidate_progress(model, wanted, present, known)
    is_there = present is not None and present.active.version == wanted.version
    return ReportedCandidate(
        version=wanted.version,
        flavor=present.active.flavor if present is not None and is_there else "",
        mode=wanted.mode,
        state=state,
        error=error,
    )


def _candidate_progress(
    model: DesiredModel, wanted: DesiredCandidate, present: Candidate | None, known: _Knowledge
) -> tuple[ModelState, str]:
    busy = known.busy.get(model.model)
    if busy is not None and busy.version == wanted.version:
        return busy.state, ""
    flavor = wanted_candidate(model, known.observed, formats=known.runtimes)
    if flavor is None:
        error = _why_refused(model, wanted.version, wanted.flavors, known)
        return ModelState.FAILED, error or _why_unfit(wanted.version, wanted.flavors, known)
    if present is not None and (present.active.version, present.active.digest) == (wanted.version, flavor.digest):
        return ModelState.SERVING, ""
    waits = why_candidate_waits(model, known.observed.installed.get(model.model))
    if waits:
        return ModelState.WAITING, waits
    return _state_of(known.rests.of(model.model, wanted.version))


def _state_of(rest: Rest | None) -> tuple[ModelState, str]:
    if rest is None:
        return ModelState.FETCHING, ""
    return _STATE_OF_REST[rest.cause], rest.reason


def _state_in_service(active: ActiveModel) -> ModelState:
    return ModelState.SERVING if active.probation is None else ModelState.PROBATION


def _why_refused(model: DesiredModel, version: int, flavors: tuple[Flavor, ...], known: _Knowledge) -> str:
    refusals = known.observed.refusals.get(model.model, ())
    found = [
        (flavor, find_refusal(refusals, version, flavor.digest, release=model.release))
        for flavor in flavors
        if flavor.format in known.runtimes
    ]
    return "; ".join(f"{flavor.name}: {refusal.reason}" for flavor, refusal in found if refusal is not None)


def _why_unfit(version: int, flavors: tuple[Flavor, ...], known: _Knowledge) -> str:
    offered = ", ".join(flavor.name for flavor in flavors) or "no flavor"
    able = ", ".join(known.runtimes) or "no model format"
    return f"version {version} comes as {offered}; this device runs {able}"


def _serving(active: ActiveModel, known: _Knowledge, *, wanted_version: int) -> ReportedModel:
    return ReportedModel(
        model=active.model,
        version=active.version,
        flavor=active.flavor,
        state=_state_in_service(active),
        wanted_version=wanted_version,
        runtime=_runtime_name(active, known),
    )


def _runtime_name(active: ActiveModel | None, known: _Knowledge) -> str:
    if active is None or active.format not in known.runtimes:
        return ""
    return known.runtimes[active.format].name
