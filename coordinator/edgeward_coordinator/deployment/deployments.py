"""The desired state of the fleet: set and removed by group, read by device.

Invariants:
- Every change takes a new generation of the fleet in its own transaction.
- A device's desired state never goes back in its generation, wherever the
  device is moved and whatever is removed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.protocol.state import DesiredModel, DesiredState
from edgeward_coordinator.deployment import store
from edgeward_coordinator.deployment.deployment import Deployment, count_followers
from edgeward_coordinator.errors import FailedPrecondition, NotFound
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.registry.store import load_versions
from edgeward_coordinator.storage import Change, newest_generation

if TYPE_CHECKING:
    from edgeward_coordinator.storage import Database


class Deployments:
    """Who should run what; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, *, group: str, model: str, version: int | None = None, actor: str) -> Deployment:
        """Have a group run a version; setting what is set changes nothing.

        Args:
            group: The group, which may have no devices yet.
            model: The model.
            version: Its version; None or 0 for the newest that devices can run.
            actor: Who asks.

        Returns:
            The deployment.

        Raises:
            InvalidArgument: That can't be the name of a group.
            NotFound: No such model or version.
            FailedPrecondition: The version has no flavor that a device could run.
        """
        verify_name(group, of="a group")
        number = self._deployable_number(model, version or 0)
        current = self._find(group, model)
        if current is not None and current.version == number:
            return current
        change = Change(actor=actor, action="deployment.set", subject=f"{group}/{model}", detail={"version": number})
        with self._database.change(change) as connection:
            store.set_version(connection, group, model, number, at=self._database.clock(), actor=actor)
        return self._get(group, model)

    def remove(self, *, group: str, model: str, actor: str) -> int:
        """Have a group run the model no more.

        Returns:
            The generation that says so.

        Raises:
            NotFound: It is not deployed there.
        """
        change = Change(actor=actor, action="deployment.remove", subject=f"{group}/{model}", detail={})
        with self._database.change(change) as connection:
            generation = store.remove_version(connection, group, model, at=self._database.clock(), actor=actor)
            if generation is None:
                raise _not_deployed(group, model)
        return generation

    def list_deployments(self, *, group: str = "", model: str = "") -> list[Deployment]:
        """What is deployed, with how many devices have followed; empty arguments leave all in."""
        with self._database.read() as connection:
            found = store.load_deployments(connection, group=group, model=model)
            reports = store.load_reports(connection, {each.group for each in found})
        counted = []
        for each in found:
            followers = count_followers(each.model, each.version, reports[each.group])
            counted.append(replace(each, devices=followers.devices, serving=followers.serving, failed=followers.failed))
        return counted

    def desired_state(self, device_id: str) -> DesiredState:
        """What a device should run.

        Raises:
            NotFound: No such device.
        """
        with self._database.read() as connection:
            device = store.load_device(connection, device_id)
            if device is None:
                raise NotFound(f"no device {device_id[:80]!r}", hint="edgeward devices list shows all")
            group, floor = device
            deployed = store.load_deployments(connection, group=group)
            versions = [load_versions(connection, each.model, number=each.version)[0] for each in deployed]
            generation = max(floor, store.group_generation(connection, group))
        models = tuple(
            DesiredModel(model=version.model, version=version.number, flavors=version.deployable)
            for version in versions
        )
        return DesiredState(generation=generation, models=models)

    def generation(self) -> int:
        """The newest generation of the fleet; cheap enough to ask each second."""
        with self._database.read() as connection:
            return newest_generation(connection)

    def _deployable_number(self, model: str, wanted: int) -> int:
        with self._database.read() as connection:
            versions = load_versions(connection, model, number=wanted or None)
        if not versions:
            shown = f"version {wanted} of {model[:80]!r}" if wanted else f"model {model[:80]!r}"
            raise NotFound(f"no {shown}", hint="edgeward models list shows what there is")
        deployable = next((version.number for version in versions if version.deployable), None)
        if deployable is None:
            newest = f"{model}:{versions[0].number}"
            raise FailedPrecondition(
                f"{newest} is only trained arrays, which no device can run",
                hint=f"compress it first: edgeward models compress {newest}",
            )
        return deployable

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
