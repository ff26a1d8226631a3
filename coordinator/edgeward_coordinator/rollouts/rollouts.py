"""Rollouts: started and controlled by people, carried on by `step`, which is to be called about once a second."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from edgeward_coordinator.errors import FailedPrecondition, NotFound, Unavailable
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.rollouts import store
from edgeward_coordinator.rollouts.course import begin
from edgeward_coordinator.rollouts.happening import Overtaken, let_happen
from edgeward_coordinator.rollouts.plan import DEFAULT_PLAN_TOML, parse_plan
from edgeward_coordinator.rollouts.rollout import PhaseRecord, Rollout, RolloutState
from edgeward_coordinator.rollouts.rounds import Rounds
from edgeward_coordinator.rollouts.transitions import event_of_action, events_of
from edgeward_coordinator.storage import Change, next_generation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from edgeward_coordinator.deployment import Deployments
    from edgeward_coordinator.rollouts.rollout import DeviceState, RolloutDevice
    from edgeward_coordinator.rollouts.store import LiveRollout
    from edgeward_coordinator.storage import Database

_T = TypeVar("_T")

_MAX_LISTED = 200
_MAX_REASON_CHARACTERS = 500
# How often a person's word is tried against steps that are written at the same moment.
_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout with its admitted devices, counted by phase and state, and how many devices the group has."""

    rollout: Rollout
    counts: Mapping[tuple[int, DeviceState], int]
    group_devices: int
    devices: Sequence[RolloutDevice] = ()


class Rollouts:
    """All rollouts. Thread-safe.

    Args:
        database: Where they live.
        deployments: Knows which versions can be deployed.
        clock: Aware UTC now.
        online: The devices of a group that have a session with this coordinator.
        heard_within: A device that was heard of so lately has one with another coordinator.
    """

    def __init__(
        self,
        database: Database,
        deployments: Deployments,
        *,
        clock: Callable[[], datetime],
        online: Callable[[str], set[str]],
        heard_within: timedelta = timedelta(seconds=45),
    ) -> None:
        self._database = database
        self._deployments = deployments
        self._clock = clock
        self._rounds = Rounds(database, deployments, clock=clock, online=online, heard_within=heard_within)

    def start(
        self, *, model: str, group: str, actor: str, version: int = 0, plan_toml: str = "", queue: bool = False
    ) -> Rollout:
        """Start to change what a group runs of a model.

        Args:
            model: The model.
            group: The group.
            actor: Who asks.
            version: Its version; 0 for the newest that devices can run.
            plan_toml: What to do when; empty for the default plan.
            queue: Whether to wait for a rollout that is on its way there, rather than be refused.

        Raises:
            InvalidArgument: That can't be the name of a group, or the plan can't be one.
            NotFound: No such model or version.
            FailedPrecondition: No device could run the version, the group runs it already, another rollout is
                on its way there, or a phase would compare it with nothing.
        """
        verify_name(group, of="a group")
        number = self._deployments.deployable_number(model, version)
        rollout = self._new(model, number, group, plan_toml or DEFAULT_PLAN_TOML, actor)
        detail = {"model": model, "version": number, "group": group, "queue": queue}
        change = Change(actor=actor, action="rollout.start", subject=rollout.id, detail=detail)
        with self._database.change(change) as connection:
            # Taking a generation keeps others from starting or deploying until this is decided.
            next_generation(connection)
            self._deployments.deployable_number(model, number)  # it may have been withdrawn meanwhile
            live = store.load_live(connection, group=group, model=model)
            if live and not queue:
                raise _occupied(live[0])
            if not live:
                from_version = store.deployed_version(connection, group, model)
                rollout = begin(rollout, from_version=from_version, now=rollout.created_at)
            store.insert_rollout(connection, rollout)
        return rollout

    def control(self, rollout_id: str, action: str, *, actor: str, reason: str = "", phase: str = "") -> Rollout:
        """Pause, resume, abort, promote or roll back a rollout; what is so already stays as it is.

        Args:
            rollout_id: Which.
            action: "pause", "resume", "abort", "promote" or "roll_back".
            actor: Who decides.
            reason: Why, for the audit log and those who look.
            phase: The phase that is meant, for a rollout goes on while somebody decides; empty for whichever it is.

        Raises:
            InvalidArgument: No such action.
            NotFound: No such rollout.
            FailedPrecondition: It can't from where it is, or is in another phase.
            Unavailable: It is written too often at this moment.
        """
        event = event_of_action(action)
        said = _bounded(reason)
        for _ in range(_TRIES):
            rollout = self.get(rollout_id)
            events = events_of(rollout, event)
            if not events:
                return rollout
            present = rollout.plan.phases[rollout.phase].name
            if phase and phase != present:
                raise FailedPrecondition(
                    f"the rollout {rollout_id} is in phase {present!r} by now, not in {phase[:80]!r}",
                    hint=f"edgeward rollouts show {rollout_id}",
                )
            detail = {"reason": said, "phase": present}
            words = f"{actor}: {said}" if said else f"asked by {actor}"
            try:
                return let_happen(self._database, rollout, events, actor=actor, reason=words, detail=detail)
            except Overtaken:
                continue
        raise Unavailable(f"the rollout {rollout_id} is being changed at this moment", hint="try again")

    def get(self, rollout_id: str) -> Rollout:
        """A rollout as it is now.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            return _found(store.load_rollout(connection, rollout_id), rollout_id)

    def devices(self, rollout_id: str) -> Sequence[RolloutDevice]:
        """The devices that a rollout has admitted, by name; those that were moved or revoked are left out.

        Raises:
            NotFound: There is no such rollout.
        """
        return self.view(rollout_id).devices

    def view(self, rollout_id: str) -> RolloutView:
        """A rollout and its devices, as they were at one instant.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            rollout = _found(store.load_rollout(connection, rollout_id), rollout_id)
            devices = store.load_devices(connection, rollout)
            in_group = store.count_groups(connection, [rollout.group])[rollout.group]
        counts = Counter((device.phase, device.state) for device in devices)
        return RolloutView(rollout=rollout, counts=counts, group_devices=in_group, devices=devices)

    def revision(self, rollout_id: str) -> int:
        """How often a rollout was written; cheap enough to ask each second.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            return _found(store.load_revision(connection, rollout_id), rollout_id)

    def list_rollouts(self, *, group: str = "", model: str = "", live_only: bool = False) -> list[RolloutView]:
        """The newest rollouts, newest first, without their devices; empty arguments leave all in."""
        with self._database.read() as connection:
            found = store.load_rollouts(connection, group=group, model=model, live_only=live_only, limit=_MAX_LISTED)
            counts = store.count_members(connection, [each.id for each in found])
            in_group = store.count_groups(connection, {each.group for each in found})
        return [RolloutView(rollout=each, counts=counts[each.id], group_devices=in_group[each.group]) for each in found]

    def step(self) -> bool:
        """Look at every rollout that is not over, each for itself.

        Returns:
            Whether anything was written.

        Raises:
            Unavailable: The database does not answer.
        """
        return self._rounds.go()

    def _new(self, model: str, number: int, group: str, plan_toml: str, actor: str) -> Rollout:
        plan, now = parse_plan(plan_toml), self._clock()
        return Rollout(
            id=secrets.token_hex(8),
            model=model,
            group=group,
            from_version=None,
            to_version=number,
            plan=plan,
            plan_toml=plan_toml,
            state=RolloutState.QUEUED,
            reason="",
            phase=0,
            phases=(PhaseRecord(),) * len(plan.phases),
            revision=0,
            created_at=now,
            created_by=actor,
            changed_at=now,
        )


def _found(value: _T | None, rollout_id: str) -> _T:
    if value is None:
        raise NotFound(f"no rollout {rollout_id[:80]!r}", hint="edgeward rollouts list shows all")
    return value


def _occupied(other: LiveRollout) -> FailedPrecondition:
    return FailedPrecondition(
        f"the rollout {other.id} of {other.model}:{other.to_version} to group {other.group!r} is not over"
        f" ({other.state.value.replace('_', ' ')})",
        hint="wait for it, abort it, or queue this one behind it: --queue",
    )


def _bounded(reason: str) -> str:
    return reason.replace("\0", "").strip()[:_MAX_REASON_CHARACTERS]
