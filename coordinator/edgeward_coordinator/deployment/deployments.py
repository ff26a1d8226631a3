"""The desired state of the fleet: set and removed by group, read by device.

Invariants:
- Every change takes a new generation of the fleet in its own transaction; a
  decision to run a version is also a new release.
- A device's desired state never goes back in its generation, wherever the
  device is moved and whatever is removed.
- What a rollout assigned to a device goes before its group's deployment, and a
  deployment is not changed by others while a rollout changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from edgeward.protocol.state import DesiredState
from edgeward_coordinator.deployment import store
from edgeward_coordinator.deployment.deployment import Deployment, count_followers
from edgeward_coordinator.deployment.desired import desired_models, versions_named
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.registry.store import load_versions
from edgeward_coordinator.storage import Change, newest_generation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward_coordinator.storage import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A device's group, and what it should run there."""

    group: str
    desired: DesiredState


class Deployments:
    """Who should run what; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, *, group: str, model: str, version: int | None = None, again: bool = False, actor: str) -> Deployment:
        """Have all devices of a group run a version, at once; setting what is set changes nothing.

        Args:
            group: The group, which may have no devices yet.
            model: The model.
            version: Its version; None or 0 for the newest that devices can run.
            again: A new release even of what is set: devices try again what they refused.
            actor: Who asks.

        Returns:
            The deployment.

        Raises:
            InvalidArgument: That can't be the name of a group.
            NotFound: No such model or version.
            FailedPrecondition: The version has no flavor that a device could run, or a rollout is on its way there.
        """
        verify_name(group, of="a group")
        number = self.deployable_number(model, version or 0)
        current = self._find(group, model)
        is_set = current is not None and current.version == number and self._is_followed_by_all(group, model)
        if current is not None and is_set and not again:
            return current
        detail = {"version": number, "again": True} if again else {"version": number}
        change = Change(actor=actor, action="deployment.set", subject=f"{group}/{model}", detail=detail)
        with self._database.change(change) as connection:
            store.set_version(connection, group, model, number, at=self._database.clock(), actor=actor)
            store.verify_no_rollout(connection, group, model)
            store.clear_assignments(connection, group, model)
        return self._get(group, model)

    def remove(self, *, group: str, model: str, actor: str) -> int:
        """Have a group run the model no more.

        Returns:
            The generation that says so.

        Raises:
            NotFound: It is not deployed there.
            FailedPrecondition: A rollout is on its way there.
        """
        change = Change(actor=actor, action="deployment.remove", subject=f"{group}/{model}", detail={})
        with self._database.change(change) as connection:
            generation = store.remove_version(connection, group, model, at=self._database.clock(), actor=actor)
            if generation is None:
                raise _not_deployed(group, model)
            store.verify_no_rollout(connection, group, model)
            store.clear_assignments(connection, group, model)
        return generation

    def list_deployments(self, *, group: str = "", model: str = "") -> list[Deployment]:
        """What is deployed, with how many devices have followed; empty arguments leave all in."""
        with self._database.read() as connection:
            found = store.load_deployments(connection, group=group, model=model)
            reports = store.load_reports(connection, {each.group for each in found})
        counted = []
        for each in found:
            followers = count_followers(each.model, each.version, reports[each.group], release=each.release)
            counted.append(replace(each, devices=followers.devices, serving=followers.serving, failed=followers.failed))
        return counted

    def desired_state(self, device_id: str) -> DesiredState:
        """What a device should run.

        Raises:
            NotFound: No such device.
        """
        found = self.desired_since({device_id: -1})
        if not found:
            raise NotFound(f"no device {device_id[:80]!r}", hint="edgeward devices list shows all")
        return found[device_id].desired

    def desired_since(self, seen: Mapping[str, int]) -> dict[str, Placed]:
        """What devices should run that is newer than the generation which each has seen; few statements for any number.

        Args:
            seen: Generations by device.

        Returns:
            Group and desired state of those for which there is something newer; unknown devices are left out.
        """
        with self._database.read() as connection:
            places = store.load_places(connection, seen)
            groups = store.group_generations(connection, {group for group, _ in places.values()})
            assigned = store.load_assignments(connection, places)
            generations = {
                device_id: max(floor, groups[group], *(each.generation for each in assigned.get(device_id, ())))
                for device_id, (group, floor) in places.items()
            }
            newer = [device_id for device_id, generation in generations.items() if generation > seen[device_id]]
            deployed = {
                group: store.load_deployments(connection, group=group) for group in {places[i][0] for i in newer}
            }
            named = versions_named(chain(*deployed.values()), chain(*(assigned.get(i, ()) for i in newer)))
            offers = store.load_offers(connection, named)
        placed = {}
        for device_id in newer:
            group, _ = places[device_id]
            models = desired_models(deployed[group], assigned.get(device_id, ()), offers)
            desired = DesiredState(generation=generations[device_id], models=models)
            placed[device_id] = Placed(group=group, desired=desired)
        return placed

    def generation(self) -> int:
        """The newest generation of the fleet; cheap enough to ask each second."""
        with self._database.read() as connection:
            return newest_generation(connection)

    def deployable_number(self, model: str, wanted: int) -> int:
        """The version that is meant: `wanted`, or with 0 the newest that can be deployed.

        Raises:
            NotFound: No such model or version.
            FailedPrecondition: None of its flavors is signed; the message says what it lacks.
        """
        with self._database.read() as connection:
            versions = load_versions(connection, model, number=wanted or None)
        if not versions:
            shown = f"version {wanted} of {model[:80]!r}" if wanted else f"model {model[:80]!r}"
            raise NotFound(f"no {shown}", hint="edgeward models list shows what there is")
        # Where none can be deployed, the one nearest to it says what is missing.
        nearest = sorted(versions, key=lambda version: (bool(version.deployable), bool(version.runnable)), reverse=True)
        nearest[0].verify_deployable()
        return nearest[0].number

    def _is_followed_by_all(self, group: str, model: str) -> bool:
        with self._database.read() as connection:
            store.verify_no_rollout(connection, group, model)
            return not store.has_assignments(connection, group, model)

    def _find(self, group: str, model: str) -> Deployment | None:
        return next(iter(self.list_deployments(group=group, model=model)), None)

    def _get(self, group: str, model: str) -> Deployment:
        found = self._find(group, model)
        if found is None:
            raise _not_deployed(group, model)
        return found


def _not_deployed(group: str, model: str) -> NotFound:
    return NotFound(
        f"{model[:80]!r} is not deployed to group {group[:80]!r}", hint="edgeward deployments list shows what is"
    )
