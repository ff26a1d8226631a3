"""What a device should run, from what its group runs and what it was assigned; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.state import CandidateMode, DesiredCandidate, DesiredModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeward.protocol.model import Flavor
    from edgeward_coordinator.deployment.assignment import Assignment
    from edgeward_coordinator.deployment.deployment import Deployment

    # Flavors by model and version.
    Offers = Mapping[tuple[str, int], tuple[Flavor, ...]]


def versions_named(deployed: Iterable[Deployment], assigned: Iterable[Assignment]) -> set[tuple[str, int]]:
    """Every model and version that a device of these could be told to run."""
    named = {(each.model, each.version) for each in deployed}
    for each in assigned:
        named.update((each.model, version) for version in (each.version, each.candidate_version) if version)
    return named


def desired_models(
    deployed: Iterable[Deployment], assigned: Iterable[Assignment], offers: Offers
) -> tuple[DesiredModel, ...]:
    """One device's models by name; an assignment goes before the group's deployment."""
    models = {each.model: _deployed(each, offers) for each in deployed}
    for each in assigned:
        desired = _assigned(each, offers)
        if desired is not None:
            models[each.model] = desired
        else:
            models.pop(each.model, None)
    return tuple(models[name] for name in sorted(models))


def _deployed(deployment: Deployment, offers: Offers) -> DesiredModel:
    return DesiredModel(
        model=deployment.model,
        version=deployment.version,
        flavors=offers[deployment.model, deployment.version],
        release=deployment.release,
    )


def _assigned(assignment: Assignment, offers: Offers) -> DesiredModel | None:
    if assignment.version is None:
        return None
    return DesiredModel(
        model=assignment.model,
        version=assignment.version,
        flavors=offers[assignment.model, assignment.version],
        candidate=_candidate(assignment, offers),
        release=assignment.release,
        probation=assignment.probation,
    )


def _candidate(assignment: Assignment, offers: Offers) -> DesiredCandidate | None:
    if assignment.candidate_version is None or assignment.mode == "serve":
        return None
    return DesiredCandidate(
        version=assignment.candidate_version,
        flavors=offers[assignment.model, assignment.candidate_version],
        mode=CandidateMode(assignment.mode),
        share=assignment.share,
    )
