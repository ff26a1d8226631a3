"""The next steps from what runs to what should. Pure, and the same whatever happened before.

For each desired model, the first of its flavors that this device has a runtime
for and that was not refused under this release is the one to serve:

    serves already            then its candidate
    another one, or none      install it
    there is no such flavor   nothing: what serves goes on serving, the report says why
    the model rests, is busy  nothing yet; the other models go on

A candidate is chosen in the same way. It is staged once the version beside which
it should run serves and has proven itself, for it takes the place of the former
version; one that should not run is dropped. A model that is not desired is
removed. Without any desired state (a device that was never told) nothing is
touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import find_refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.state import CandidateMode, DesiredModel, DesiredState, ProbationRules
    from edgeward_agent.artifacts import ActiveModel, Candidate, Refusal
    from edgeward_agent.reconcile.rests import Rests


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is on the device, by model; `on_disk` are those that take room, whether they serve or not."""

    installed: Mapping[str, ActiveModel] = field(default_factory=dict)
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    refusals: Mapping[str, tuple[Refusal, ...]] = field(default_factory=dict)
    on_disk: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Fetch, verify, test and activate a flavor."""

    model: str
    version: int
    flavor: Flavor
    release: int
    probation: ProbationRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Fetch, verify and test a flavor, and run it beside what serves."""

    model: str
    version: int
    flavor: Flavor
    release: int
    mode: CandidateMode
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DropCandidate:
    """End what runs beside."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Stop serving a model and free its space."""

    model: str


Step = Install | Stage | DropCandidate | Remove


def next_steps(
    desired: DesiredState | None,
    observed: Observed,
    rests: Rests,
    *,
    formats: Container[Format],
    busy: Container[str],
    now: float,
) -> list[Step]:
    """The steps to take now, at most one a model.

    Args:
        desired: What should run.
        observed: What is here.
        rests: What is left alone.
        formats: The model formats that this device has a runtime for.
        busy: The models of which a step is being taken.
        now: Of the monotonic clock.
    """
    if desired is None:
        return []
    steps = [_step_for(model, observed, formats) for model in desired.models]
    wanted = {model.model for model in desired.models}
    steps += [Remove(model=name) for name in observed.on_disk if name not in wanted]
    return [
        step for step in steps if step is not None and step.model not in busy and not rests.is_resting(step.model, now)
    ]


def is_settled(desired: DesiredState | None, observed: Observed, rests: Rests, *, formats: Container[Format]) -> bool:
    """Whether the desired state has been acted on in full: nothing is left to try, even once all rests are over."""
    if next_steps(desired, observed, rests, formats=formats, busy=(), now=math.inf):
        return False
    return desired is None or not any(_waits_for_probation(model, observed) for model in desired.models)


def wanted_flavor(model: DesiredModel, observed: Observed, *, formats: Container[Format]) -> Flavor | None:
    """The flavor to install for a desired model; None where nothing better than what serves can be had."""
    active = observed.installed.get(model.model)
    flavor = _first_usable(model, model.version, model.flavors, observed, formats)
    if active is None or flavor is None:
        return flavor
    serves = (active.version, active.flavor, active.digest) == (model.version, flavor.name, flavor.digest)
    return None if serves else flavor


def wanted_candidate(model: DesiredModel, observed: Observed, *, formats: Container[Format]) -> Flavor | None:
    """The flavor that should run beside; None where none should or can."""
    candidate = model.candidate
    if candidate is None or candidate.version == model.version:
        return None
    return _first_usable(model, candidate.version, candidate.flavors, observed, formats)


def why_candidate_waits(model: DesiredModel, active: ActiveModel | None) -> str:
    """What a candidate waits for that is not its own; empty where it need not wait."""
    if active is None or active.version != model.version:
        return f"version {model.version}, beside which it should run, does not serve"
    if active.probation is not None:
        return f"version {active.version}, beside which it should run, is on probation"
    return ""


def _step_for(model: DesiredModel, observed: Observed, formats: Container[Format]) -> Step | None:
    flavor = wanted_flavor(model, observed, formats=formats)
    if flavor is not None:
        return Install(
            model=model.model,
            version=model.version,
            flavor=flavor,
            release=model.release,
            probation=model.probation,
        )
    return _candidate_step(model, observed, formats)


def _candidate_step(model: DesiredModel, observed: Observed, formats: Container[Format]) -> Step | None:
    present = observed.candidates.get(model.model)
    flavor = wanted_candidate(model, observed, formats=formats)
    if model.candidate is None or flavor is None:
        return None if present is None else DropCandidate(model=model.model)
    if why_candidate_waits(model, observed.installed.get(model.model)):
        return None
    stage = Stage(
        model=model.model,
        version=model.candidate.version,
        flavor=flavor,
        release=model.release,
        mode=model.candidate.mode,
        share=model.candidate.share,
    )
    return None if present is not None and is_staged(stage, present) else stage


def is_staged(stage: Stage, present: Candidate) -> bool:
    """Whether a candidate is here as it should be."""
    there = (present.active.version, present.active.flavor, present.active.digest, present.mode, present.share)
    return there == (stage.version, stage.flavor.name, stage.flavor.digest, stage.mode, stage.share)


def _waits_for_probation(model: DesiredModel, observed: Observed) -> bool:
    active = observed.installed.get(model.model)
    return model.candidate is not None and active is not None and active.probation is not None


def _first_usable(
    model: DesiredModel,
    version: int,
    flavors: tuple[Flavor, ...],
    observed: Observed,
    formats: Container[Format],
) -> Flavor | None:
    refusals = observed.refusals.get(model.model, ())
    for flavor in flavors:
        refusal = find_refusal(refusals, version, flavor.digest, release=model.release)
        if flavor.format in formats and refusal is None:
            return flavor
    return None
