"""Rounds over all rollouts that are not over: how they go on by themselves.

Nothing is remembered between two rounds but what is in the database, so after any
stop everything goes on where it was, and it does not matter which of several
coordinators looks: who writes names the revision that it read, who comes second
writes nothing and looks again. A rollout that can't be looked at stops no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from edgeward_coordinator.errors import CoordinatorError, Unavailable
from edgeward_coordinator.rollouts import store
from edgeward_coordinator.rollouts.course import begin
from edgeward_coordinator.rollouts.documents import phases_to_document
from edgeward_coordinator.rollouts.happening import AUTOMATIC, Overtaken, let_happen
from edgeward_coordinator.rollouts.members import takes_part
from edgeward_coordinator.rollouts.rollout import RolloutState
from edgeward_coordinator.rollouts.step import Situation, Step, take_step
from edgeward_coordinator.rollouts.tally import Answers
from edgeward_coordinator.rollouts.transitions import RolloutEvent
from edgeward_coordinator.storage import Change, next_generation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from edgeward_coordinator.deployment import Deployments
    from edgeward_coordinator.rollouts.members import GroupDevice
    from edgeward_coordinator.rollouts.rollout import Rollout
    from edgeward_coordinator.rollouts.store import LiveRollout
    from edgeward_coordinator.storage import Database

_LOG = structlog.stdlib.get_logger(__name__)


class Rounds:
    """Looks at every rollout, again and again; see `Rollouts` for the arguments."""

    def __init__(
        self,
        database: Database,
        deployments: Deployments,
        *,
        clock: Callable[[], datetime],
        online: Callable[[str], set[str]],
        heard_within: timedelta,
    ) -> None:
        self._database = database
        self._deployments = deployments
        self._clock = clock
        self._online = online
        self._heard_within = heard_within
        self._troubles: dict[str, str] = {}

    def go(self) -> bool:
        """Look at every rollout that is not over, each for itself.

        Returns:
            Whether anything was written.

        Raises:
            Unavailable: The database does not answer.
        """
        with self._database.read() as connection:
            live = store.load_live(connection)
        written = [self._step_safely(rollout.id, rollout.state) for rollout in _first_of_each(live)]
        self._troubles = {each.id: self._troubles[each.id] for each in live if each.id in self._troubles}
        return any(written)

    def _step_safely(self, rollout_id: str, state: RolloutState) -> bool:
        try:
            written = self._begin(rollout_id) if state is RolloutState.QUEUED else self._advance(rollout_id)
        except Overtaken:
            return True
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of a rollout; it must not stop the others
            trouble = repr(error)
            if self._troubles.get(rollout_id) != trouble:
                _LOG.exception("a rollout can't be looked at, tries again", rollout=rollout_id)
            self._troubles[rollout_id] = trouble
            return False
        self._troubles.pop(rollout_id, None)
        return written

    def _begin(self, rollout_id: str) -> bool:
        """Let a queued rollout begin, or end it where it can't any more."""
        with self._database.read() as connection:
            queued = store.load_rollout(connection, rollout_id)
        if queued is None or queued.state is not RolloutState.QUEUED:
            return False
        try:
            self._deployments.deployable_number(queued.model, queued.to_version)
            self._begin_now(queued)
        except Unavailable:
            raise
        except CoordinatorError as error:
            let_happen(self._database, queued, [RolloutEvent.ABORT], actor=AUTOMATIC, reason=error.message, detail={})
        return True

    def _begin_now(self, queued: Rollout) -> None:
        detail = {"model": queued.model, "version": queued.to_version, "group": queued.group}
        change = Change(actor=AUTOMATIC, action="rollout.begin", subject=queued.id, detail=detail)
        with self._database.change(change) as connection:
            next_generation(connection)
            live = store.load_live(connection, group=queued.group, model=queued.model)
            if any(each.state is not RolloutState.QUEUED for each in live):
                raise Overtaken
            from_version = store.deployed_version(connection, queued.group, queued.model)
            begun = begin(queued, from_version=from_version, now=self._clock())
            if not store.update_rollout(connection, begun):
                raise Overtaken

    def _advance(self, rollout_id: str) -> bool:
        situation = self._situation(rollout_id)
        if situation is None:
            return False
        now = self._clock()
        step = take_step(situation, now=now)
        if step.event is not None:
            detail = {"phase": situation.rollout.plan.phases[situation.rollout.phase].name}
            let_happen(
                self._database,
                step.rollout,
                [step.event],
                actor=AUTOMATIC,
                reason=step.reason,
                detail=detail,
                moved=step.moved,
            )
            return True
        return self._note(situation.rollout, step)

    def _situation(self, rollout_id: str) -> Situation | None:
        with self._database.read() as connection:
            rollout = store.load_rollout(connection, rollout_id)
            if rollout is None or rollout.state.is_over or rollout.state is RolloutState.QUEUED:
                return None
            devices = store.load_group(connection, rollout)
            members = store.load_members(connection, rollout)
            answers = Answers()
            if rollout.state is not RolloutState.ROLLING_BACK:
                asked = [each for each in devices if each in members and takes_part(rollout, members[each])]
                answers = store.sum_answers(connection, rollout, asked)
        online = self._online(rollout.group) | self._heard_of(devices.values())
        return Situation(rollout=rollout, devices=devices, online=online, members=members, answers=answers)

    def _heard_of(self, devices: Iterable[GroupDevice]) -> set[str]:
        since = self._clock() - self._heard_within
        return {device.device_id for device in devices if device.last_seen is not None and device.last_seen > since}

    def _note(self, before: Rollout, step: Step) -> bool:
        """Write what a step has seen, where it is news, and admit whom it admits."""
        has_news = phases_to_document(step.rollout.phases) != phases_to_document(before.phases)
        if not (has_news or step.moved or step.admitted):
            return False
        # What was only seen is seen again, should a power cut forget it; a generation must not be forgotten.
        with self._database.write(durable=bool(step.admitted)) as connection:
            if not store.update_rollout(connection, step.rollout):
                raise Overtaken
            store.put_members(connection, before.id, step.moved)
            store.admit(connection, step.rollout, step.admitted)
        return True


def _first_of_each(live: Sequence[LiveRollout]) -> list[LiveRollout]:
    """Of each group and model the one that has begun, or else the one that has waited longest."""
    first: dict[tuple[str, str], LiveRollout] = {}
    # Not by age alone: the clocks of several coordinators differ.
    for rollout in sorted(live, key=lambda each: each.state is RolloutState.QUEUED):
        first.setdefault((rollout.group, rollout.model), rollout)
    return list(first.values())
