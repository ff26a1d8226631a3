"""What a device says it runs, from what it knows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.state import ModelState, ReportedModel, ReportedState
from edgeward_agent.reconcile.decision import wanted_flavor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.model import Format
    from edgeward.protocol.state import DesiredModel, DesiredState, RuntimeInfo
    from edgeward_agent.artifacts import ActiveModel
    from edgeward_agent.reconcile.failures import Failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The installation that is going on: FETCHING, then CHECKING."""

    model: str
    state: ModelState


def describe_state(
    desired: DesiredState | None,
    installed: Mapping[str, ActiveModel],
    failures: Failures,
    *,
    runtimes: Mapping[Format, RuntimeInfo],
    busy: Busy | None,
    reached: int,
) -> ReportedState:
    """Each desired model in turn, then what serves besides.

    Args:
        desired: What should run; None: never told.
        installed: What runs, by model.
        failures: What was learned.
        runtimes: The runtime for each format that this device can run.
        busy: What is being installed at this moment.
        reached: The newest generation that was acted on in full.
    """
    wanted = {model.model: model for model in desired.models} if desired else {}
    models = [
        _describe(model, installed.get(name), failures, runtimes=runtimes, busy=busy) for name, model in wanted.items()
    ]
    models += [
        _serving(active, runtimes, wanted_version=active.version if desired is None else 0)
        for name, active in installed.items()
        if name not in wanted
    ]
    return ReportedState(generation=reached, models=tuple(models))


def _describe(
    model: DesiredModel,
    active: ActiveModel | None,
    failures: Failures,
    *,
    runtimes: Mapping[Format, RuntimeInfo],
    busy: Busy | None,
) -> ReportedModel:
    state, error = _progress(model, active, failures, runtimes=runtimes, busy=busy)
    return ReportedModel(
        model=model.model,
        version=active.version if active else 0,
        flavor=active.flavor if active else "",
        state=state,
        wanted_version=model.version,
        runtime=_runtime_name(active, runtimes),
        error=error,
    )


def _progress(
    model: DesiredModel,
    active: ActiveModel | None,
    failures: Failures,
    *,
    runtimes: Mapping[Format, RuntimeInfo],
    busy: Busy | None,
) -> tuple[ModelState, str]:
    if busy is not None and busy.model == model.model:
        return busy.state, ""
    if wanted_flavor(model, active, failures, formats=runtimes) is not None:
        rest = failures.rest_of(model.model)
        if rest is None:
            return ModelState.FETCHING, ""
        return (ModelState.FETCHING if rest.needs_link else ModelState.FAILED), rest.error
    error = _why_refused(model, failures, runtimes)
    if active is not None and active.version == model.version:
        # What is said of better flavors that were refused explains why this one serves.
        return ModelState.SERVING, error
    return ModelState.FAILED, error or _why_unfit(model, runtimes)


def _why_refused(model: DesiredModel, failures: Failures, runtimes: Mapping[Format, RuntimeInfo]) -> str:
    reasons = [
        f"{flavor.name}: {error}"
        for flavor in model.flavors
        if flavor.format in runtimes and (error := failures.refusal(model.model, model.version, flavor)) is not None
    ]
    return "; ".join(reasons)


def _why_unfit(model: DesiredModel, runtimes: Mapping[Format, RuntimeInfo]) -> str:
    offered = ", ".join(flavor.name for flavor in model.flavors) or "no flavor"
    able = ", ".join(runtimes) or "no model format"
    return f"version {model.version} comes as {offered}; this device runs {able}"


def _serving(active: ActiveModel, runtimes: Mapping[Format, RuntimeInfo], *, wanted_version: int) -> ReportedModel:
    return ReportedModel(
        model=active.model,
        version=active.version,
        flavor=active.flavor,
        state=ModelState.SERVING,
        wanted_version=wanted_version,
        runtime=_runtime_name(active, runtimes),
    )


def _runtime_name(active: ActiveModel | None, runtimes: Mapping[Format, RuntimeInfo]) -> str:
    if active is None or active.format not in runtimes:
        return ""
    return runtimes[active.format].name
