"""What happens to a rollout, written with all that follows from it: one transaction, one entry of the audit log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import FailedPrecondition
from edgeward_coordinator.rollouts import store
from edgeward_coordinator.rollouts.course import follow
from edgeward_coordinator.rollouts.rollout import RolloutState
from edgeward_coordinator.storage import Change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward_coordinator.rollouts.members import Member
    from edgeward_coordinator.rollouts.rollout import Rollout
    from edgeward_coordinator.rollouts.transitions import RolloutEvent
    from edgeward_coordinator.storage import Database

AUTOMATIC = "rollouts"  # the actor of what no person decided


class Overtaken(Exception):
    """Somebody else has written the rollout since it was read; nothing of ours is written."""


def let_happen(
    database: Database,
    rollout: Rollout,
    events: Sequence[RolloutEvent],
    *,
    actor: str,
    reason: str,
    detail: Mapping[str, object],
    moved: Sequence[Member] = (),
) -> Rollout:
    """Let events happen to a rollout.

    Args:
        database: Where it lives.
        rollout: As it was read.
        events: In their order.
        actor: Who decided.
        reason: Why it is then where it is, for those who look.
        detail: More for the audit log.
        moved: Devices that are elsewhere than when it was read.

    Returns:
        The rollout as it was written.

    Raises:
        Overtaken: It is no longer as it was read.
        NotAllowed: It can't from where it is.
        FailedPrecondition: It can't be rolled back any more, for something else was decided since.
    """
    after = follow(rollout, events, reason=reason, now=database.clock())
    noted = {"reason": reason, **detail, "state": after.state.value}
    change = Change(actor=actor, action=f"rollout.{events[0].value}", subject=rollout.id, detail=noted)
    with database.change(change) as connection:
        if not store.update_rollout(connection, after):
            raise Overtaken
        store.put_members(connection, after.id, moved)
        match rollout.state, after.state:
            case _, RolloutState.SUCCEEDED:
                store.deploy(connection, after)
            case RolloutState.SUCCEEDED, RolloutState.ROLLING_BACK:
                if not store.undeploy(connection, after):
                    raise _outdated(rollout)
            case _, RolloutState.ROLLING_BACK:
                store.withdraw(connection, after)
            case _, RolloutState.ABORTED:
                store.withdraw(connection, after, keep_succeeded=True)
            case _:
                pass
    return replace(after, revision=after.revision + 1)


def _outdated(rollout: Rollout) -> FailedPrecondition:
    return FailedPrecondition(
        f"what group {rollout.group!r} runs of {rollout.model!r} was decided anew since the rollout {rollout.id}",
        hint="deploy the version that should run, or roll it out",
    )
