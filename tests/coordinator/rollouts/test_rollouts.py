"""Rollouts from start to end, on rows: who is admitted, what devices should run, who may stop it and how."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from edgeward.protocol.state import CandidateMode, ProbationRules, ReportedState
from edgeward_coordinator.errors import CoordinatorError, FailedPrecondition, InvalidArgument, NotFound
from edgeward_coordinator.fleet.store import select_devices
from edgeward_coordinator.rollouts import DeviceState, RolloutState
from edgeward_coordinator.storage import schema
from tests.rollout_fleet import ACTOR, ALL_AT_ONCE, GROUP, MODEL, QUICK_PLAN, RolloutFleet

if TYPE_CHECKING:
    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock

SHADOW_FIRST = """
[[phases]]
name = "beside"
mode = "shadow"
share = 0.5
soak = "1m"
min_agreement = 0.9

[[phases]]
name = "everyone"
share = 1.0
soak = "1m"
"""


@pytest.fixture
def fleet(database: Database, clock: SetClock) -> RolloutFleet:
    """Without devices; the group runs version 1."""
    made = RolloutFleet(database, clock)
    made.deployments.set(group=GROUP, model=MODEL, version=1, actor=ACTOR)
    return made


def assignments(fleet: RolloutFleet) -> list[tuple[str, int | None]]:
    """Device and version of every assignment."""
    table = schema.assignment
    with fleet.database.read() as connection:
        rows = connection.execute(select(table.c.device_id, table.c.version).order_by(table.c.device_id))
        return [(row.device_id, row.version) for row in rows]


def only(states: dict[str, DeviceState]) -> str:
    """The one device that was admitted."""
    (device_id,) = states
    return device_id


# From start to end


def test_a_good_version_goes_out_in_phases(fleet: RolloutFleet) -> None:
    """One device first; when it has soaked the others; at the end the group's deployment is the new version."""
    fleet.add(5)
    rollout = fleet.start()
    assert (rollout.state, rollout.from_version, rollout.to_version) == (RolloutState.RUNNING, 1, 2)
    fleet.rollouts.step()
    canary = only(fleet.places(rollout))
    assert fleet.serving() == {device: 2 if device == canary else 1 for device in fleet.serving()}
    fleet.obey()
    fleet.rollouts.step()
    assert fleet.places(rollout) == {canary: DeviceState.SUCCEEDED}
    fleet.go_on(until=RolloutState.SUCCEEDED)
    ended = fleet.rollouts.get(rollout.id)
    assert ended.state is RolloutState.SUCCEEDED
    assert [record.passed for record in ended.phases] == [True, True]
    assert ended.ended_at is not None
    assert set(fleet.serving().values()) == {2}
    assert assignments(fleet) == []
    (deployment,) = fleet.deployments.list_deployments()
    assert (deployment.version, deployment.created_by) == (2, f"rollout {rollout.id}")
    assert fleet.audited(rollout) == [
        (ACTOR, "rollout.start"),
        ("rollouts", "rollout.phase_passed"),
        ("rollouts", "rollout.finished"),
    ]


def test_a_bad_version_goes_back_by_itself(fleet: RolloutFleet) -> None:
    """It fails on the canary: nobody else ever should run it, the canary returns, and the reason stays to be read."""
    fleet.add(5)
    fleet.failing[2] = "golden set: output y differs"
    rollout = fleet.start()
    fleet.rollouts.step()
    canary = only(fleet.places(rollout))
    fleet.obey()
    fleet.rollouts.step()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLING_BACK
    assert set(fleet.serving().values()) == {1}
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    ended = fleet.rollouts.get(rollout.id)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.phases[0].passed is False
    assert "install" in ended.reason
    (device,) = fleet.rollouts.devices(rollout.id)
    assert (device.device_id, device.state, device.error) == (
        canary,
        DeviceState.RETURNED,
        "golden set: output y differs",
    )
    assert fleet.deployments.list_deployments()[0].version == 1
    assert fleet.audited(rollout)[1:] == [("rollouts", "rollout.gate_failed"), ("rollouts", "rollout.returned")]


def test_a_device_sees_every_turn_as_newer(fleet: RolloutFleet) -> None:
    """Its generation grows when it is admitted and when it is sent back, in lists too; the others' stays as it is."""
    fleet.add(3)
    rollout = fleet.start()
    before = {device: fleet.deployments.desired_state(device).generation for device in fleet.serving()}
    fleet.rollouts.step()
    canary = only(fleet.places(rollout))
    during = {device: fleet.deployments.desired_state(device).generation for device in before}
    with fleet.database.read() as connection:
        listed = {record.id: record.desired_generation for record in select_devices(connection, group=GROUP)}
    assert listed == during
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    after = {device: fleet.deployments.desired_state(device).generation for device in before}
    assert before[canary] < during[canary] < after[canary]
    assert {device for device in before if before[device] != after[device]} == {canary}
    assert set(fleet.deployments.desired_since(during)) == {canary}


def test_a_first_version_is_removed_where_it_failed(fleet: RolloutFleet) -> None:
    """A group that ran nothing runs nothing again."""
    fleet.add(2, group="field")
    fleet.failing[2] = "out of memory"
    rollout = fleet.start(group="field")
    assert rollout.from_version is None
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLED_BACK
    assert {fleet.serving()[device] for device in ("d0000", "d0001")} == {0}


def test_errors_of_the_new_version_stop_it(fleet: RolloutFleet) -> None:
    """What it answers counts since the device was admitted; what it answered in an earlier life does not."""
    (device,) = fleet.add()
    fleet.answers(device, 2, calls=1000, errors=1000)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    fleet.answers(device, 2, calls=500)
    fleet.rollouts.step()
    gates = {gate.name: gate for gate in fleet.rollouts.get(rollout.id).phases[0].gates}
    assert (gates["errors"].value, gates["errors"].evidence) == (0.0, 500)
    fleet.answers(device, 2, calls=500, errors=400)
    fleet.rollouts.step()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLING_BACK
    assert "errors" in fleet.rollouts.get(rollout.id).reason


def test_the_old_version_is_what_latency_is_compared_with(fleet: RolloutFleet) -> None:
    """On the same devices."""
    (device,) = fleet.add()
    fleet.answers(device, 1, calls=200)
    rollout = fleet.start(plan=ALL_AT_ONCE + "max_latency_ratio = 2.0\n")
    fleet.tick(by=timedelta(seconds=1))
    fleet.answers(device, 2, calls=100)
    fleet.rollouts.step()
    gates = {gate.name: gate for gate in fleet.rollouts.get(rollout.id).phases[0].gates}
    assert gates["latency"].value == pytest.approx(1.0)


# Who is admitted, and what if


def test_probation_and_release_come_with_the_assignment(fleet: RolloutFleet) -> None:
    """The plan's rules, and the generation that brought it."""
    (device,) = fleet.add()
    before = fleet.desired(device)
    fleet.start(plan='[probation]\nduration = "5m"\nmin_predictions = 7\n' + ALL_AT_ONCE)
    fleet.rollouts.step()
    desired = fleet.desired(device)
    assert desired.probation == ProbationRules(duration=timedelta(minutes=5), min_predictions=7)
    assert before.probation == ProbationRules()
    assert desired.release == fleet.deployments.desired_state(device).generation > before.release


def test_a_device_that_is_away_holds_nobody_up_and_follows(fleet: RolloutFleet) -> None:
    """It is admitted as one that is away; when it is back it takes the same way."""
    here, gone = fleet.add(2)
    fleet.away = {gone}
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick()
    fleet.rollouts.step()
    assert fleet.places(rollout) == {here: DeviceState.SUCCEEDED, gone: DeviceState.OFFLINE}
    fleet.away = set()
    fleet.tick()
    fleet.rollouts.step()
    assert fleet.places(rollout)[gone] is DeviceState.SUCCEEDED


def test_a_device_that_comes_back_after_the_end_follows_the_group(fleet: RolloutFleet) -> None:
    """Its assignment is gone, the deployment is the new version."""
    _, gone = fleet.add(2)
    fleet.away = {gone}
    fleet.start(plan=ALL_AT_ONCE)
    fleet.go_on(until=RolloutState.SUCCEEDED)
    assert fleet.serving()[gone] == 2
    assert fleet.desired(gone).probation == ProbationRules()


def test_a_late_joiner_is_taken_by_the_phase_that_runs(fleet: RolloutFleet) -> None:
    """Where all are in, it is too."""
    fleet.add(2)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    (late,) = fleet.add()
    assert fleet.serving()[late] == 1
    fleet.rollouts.step()
    assert fleet.serving()[late] == 2
    assert fleet.places(rollout)[late] is DeviceState.UPDATING


def test_a_late_joiner_waits_for_its_phase(fleet: RolloutFleet) -> None:
    """While the canary runs, one that joins is no second canary."""
    fleet.add(2)
    rollout = fleet.start()
    fleet.tick(by=timedelta(seconds=1))
    fleet.add(3)
    fleet.rollouts.step()
    assert len(fleet.places(rollout)) == 1


def test_labels_select(fleet: RolloutFleet) -> None:
    """A phase may take those of a place."""
    fleet.add(2)
    hall = fleet.add(2, labels={"site": "hall-3"})
    plan = '[[phases]]\nname = "hall"\nlabels = { site = "hall-3" }\n' + ALL_AT_ONCE
    rollout = fleet.start(plan=plan)
    fleet.rollouts.step()
    assert sorted(fleet.places(rollout)) == hall


def test_a_device_that_moves_away_drops_out(fleet: RolloutFleet) -> None:
    """It follows its new group at once, and counts no more; what it left does not bind it when it comes back."""
    stays, moves = fleet.add(2)
    fleet.deployments.set(group="field", model=MODEL, version=3, actor=ACTOR)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    fleet.move(moves, "field")
    assert fleet.serving() == {stays: 2, moves: 3}
    assert list(fleet.places(rollout)) == [stays]
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    fleet.move(moves, GROUP)
    assert fleet.serving() == {stays: 1, moves: 1}


def test_a_device_that_moves_through_another_rollout_is_admitted_anew(fleet: RolloutFleet) -> None:
    """What the other group's rollout assigned is not taken for ours."""
    fleet.add(1)
    (moves,) = fleet.add(1)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    other = fleet.start(3, plan=ALL_AT_ONCE, group="field")
    fleet.move(moves, "field")
    fleet.rollouts.step()
    assert fleet.serving()[moves] == 3
    assert fleet.places(other) == {moves: DeviceState.UPDATING}
    fleet.move(moves, GROUP)
    fleet.rollouts.step()
    assert fleet.serving()[moves] == 2
    assert fleet.places(rollout)[moves] is DeviceState.UPDATING


def test_a_revoked_device_drops_out_of_the_counts(fleet: RolloutFleet) -> None:
    """It had failed, and stops nothing any more."""
    fleet.add(3)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.rollouts.step()
    fleet.failing[2] = "no"
    fleet.obey("d0000")
    fleet.revoke("d0000")
    fleet.failing.clear()
    fleet.obey("d0001", "d0002")
    fleet.rollouts.step()
    assert sorted(fleet.places(rollout)) == ["d0001", "d0002"]
    assert fleet.rollouts.get(rollout.id).state is RolloutState.RUNNING
    assert fleet.rollouts.view(rollout.id).group_devices == 2


# Shadow and ab


def test_a_shadow_serves_nobody_and_serves_later(fleet: RolloutFleet) -> None:
    """In the first phase it is a candidate beside the old version; the next phase makes it what serves."""
    fleet.add(8)
    rollout = fleet.start(plan=SHADOW_FIRST)
    fleet.rollouts.step()
    beside = sorted(fleet.places(rollout))
    assert 0 < len(beside) < 8
    assert set(fleet.serving().values()) == {1}
    candidate = fleet.desired(beside[0]).candidate
    assert candidate is not None
    assert (candidate.version, candidate.mode, len(candidate.flavors)) == (2, CandidateMode.SHADOW, 1)
    fleet.obey()
    for device in beside:
        fleet.answers(device, 2, calls=100, beside=1, agreed=99)
    fleet.rollouts.step()
    gates = {gate.name: gate for gate in fleet.rollouts.get(rollout.id).phases[0].gates}
    assert gates["agreement"].value == pytest.approx(0.99)
    fleet.clock.advance(timedelta(minutes=2))
    fleet.tick(by=timedelta(seconds=1))
    fleet.rollouts.step()
    assert set(fleet.serving().values()) == {2}
    assert fleet.desired(beside[0]).candidate is None


def test_a_shadow_that_disagrees_is_taken_away(fleet: RolloutFleet) -> None:
    """Nobody was served by it, and nobody runs it any more."""
    fleet.add(8)
    rollout = fleet.start(plan=SHADOW_FIRST)
    fleet.rollouts.step()
    beside = sorted(fleet.places(rollout))
    fleet.obey()
    for device in beside:
        fleet.answers(device, 2, calls=100, beside=1, agreed=20)
    fleet.rollouts.step()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLING_BACK
    assert fleet.desired(beside[0]).candidate is None
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    assert set(fleet.places(rollout).values()) == {DeviceState.RETURNED}


def test_an_ab_phase_splits_the_requests(fleet: RolloutFleet) -> None:
    """The plan's share goes to the new version."""
    (device,) = fleet.add()
    fleet.start(plan='[[phases]]\nname = "split"\nmode = "ab"\nshare = 1.0\nab_share = 0.2\n' + ALL_AT_ONCE)
    fleet.rollouts.step()
    desired = fleet.desired(device)
    assert desired.version == 1
    assert desired.candidate is not None
    assert (desired.candidate.version, desired.candidate.mode, desired.candidate.share) == (2, CandidateMode.AB, 0.2)


def test_ab_counts_both_versions_since_then(fleet: RolloutFleet) -> None:
    """What the old one answered before is no fair comparison."""
    (device,) = fleet.add()
    fleet.answers(device, 1, calls=1000, errors=900)
    rollout = fleet.start(plan='[[phases]]\nname = "split"\nmode = "ab"\nshare = 1.0\n' + ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    fleet.answers(device, 1, calls=50)
    fleet.answers(device, 2, calls=60)
    fleet.rollouts.step()
    gates = {gate.name: gate for gate in fleet.rollouts.get(rollout.id).phases[0].gates}
    assert "100 % of 60" in gates["ab"].text
    assert "100 % of 50" in gates["ab"].text


def test_a_shadow_needs_something_to_be_beside(fleet: RolloutFleet) -> None:
    """A group that runs nothing can't compare."""
    fleet.add(group="field")
    with pytest.raises(FailedPrecondition, match="'beside' runs digits:2 beside another version, and group 'field'"):
        fleet.start(plan=SHADOW_FIRST, group="field")


# One at a time


def test_a_second_rollout_there_is_refused(fleet: RolloutFleet) -> None:
    """It names the first one; other groups are free."""
    first = fleet.start()
    with pytest.raises(FailedPrecondition, match=f"the rollout {first.id} of digits:2 to group 'lab' is not over"):
        fleet.start(3)
    assert fleet.start(3, group="field").state is RolloutState.RUNNING


def test_of_two_starts_at_once_one_wins(fleet: RolloutFleet) -> None:
    """However they race."""
    together = threading.Barrier(4)

    def start(version: int) -> RolloutState | None:
        together.wait()
        try:
            return fleet.start(version).state
        except FailedPrecondition:
            return None

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(start, (2, 3, 4, 2)))
    assert sorted(states, key=str) == [None, None, None, RolloutState.RUNNING]
    assert len(fleet.rollouts.list_rollouts(live_only=True)) == 1


def test_a_queued_one_begins_when_the_first_is_over(fleet: RolloutFleet) -> None:
    """From what the group runs then; a third waits for its turn."""
    fleet.add(2)
    waiting = []
    for version in (2, 3, 4):
        waiting.append(fleet.start(version, plan=ALL_AT_ONCE, queue=True))
        fleet.clock.advance(timedelta(seconds=1))
    assert [each.state for each in waiting] == [RolloutState.RUNNING, RolloutState.QUEUED, RolloutState.QUEUED]
    for _ in range(30):
        fleet.tick()
        states = [fleet.rollouts.get(each.id).state for each in waiting]
        assert states.count(RolloutState.RUNNING) <= 1
        assert states == sorted(states, key=[RolloutState.SUCCEEDED, RolloutState.RUNNING, RolloutState.QUEUED].index)
    ended = [fleet.rollouts.get(each.id) for each in waiting]
    assert [(each.state, each.from_version) for each in ended] == [(RolloutState.SUCCEEDED, n) for n in (1, 2, 3)]


def test_a_queued_one_that_has_nothing_to_do_ends(fleet: RolloutFleet) -> None:
    """The one before it brought the same version."""
    fleet.add()
    fleet.start(2, plan=ALL_AT_ONCE)
    queued = fleet.start(2, plan=ALL_AT_ONCE, queue=True)
    fleet.go_on(until=RolloutState.SUCCEEDED)
    ended = fleet.rollouts.get(queued.id)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, "group 'lab' runs digits:2 already")


def test_what_is_deployed_is_not_rolled_out(fleet: RolloutFleet) -> None:
    """There is nothing to do."""
    with pytest.raises(FailedPrecondition, match="group 'lab' runs digits:1 already"):
        fleet.start(1)


def test_nobody_deploys_under_a_rollout(fleet: RolloutFleet) -> None:
    """Not another version, not the same one, and nobody removes it; other groups are free."""
    rollout = fleet.start()
    for version in (1, 2, 3):
        with pytest.raises(FailedPrecondition, match=f"the rollout {rollout.id} of 'digits' to group 'lab'"):
            fleet.deployments.set(group=GROUP, model=MODEL, version=version, actor=ACTOR)
    with pytest.raises(FailedPrecondition, match="is not over"):
        fleet.deployments.remove(group=GROUP, model=MODEL, actor=ACTOR)
    assert fleet.deployments.set(group="field", model=MODEL, version=3, actor=ACTOR).version == 3
    assert fleet.deployments.list_deployments(group=GROUP)[0].version == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 9}, NotFound),
        ({"group": "two words"}, InvalidArgument),
        ({"plan": "[[phases]]\nshare = 2\n"}, InvalidArgument),
    ],
    ids=["version", "group", "plan"],
)
def test_what_can_not_be_is_refused(
    fleet: RolloutFleet, changes: dict[str, object], error: type[CoordinatorError]
) -> None:
    """And nothing is started."""
    with pytest.raises(error):
        fleet.start(**changes)  # type: ignore[arg-type]
    assert fleet.rollouts.list_rollouts() == []


# People's word


def test_a_word_given_twice_counts_once(fleet: RolloutFleet) -> None:
    """The same answer, and one entry of the audit log with who and why."""
    rollout = fleet.start()
    first = fleet.rollouts.control(rollout.id, "pause", actor="bob", reason="lunch")
    again = fleet.rollouts.control(rollout.id, "pause", actor="eve", reason="hm")
    assert first == again
    assert (first.state, first.reason) == (RolloutState.PAUSED, "bob: lunch")
    assert fleet.audited(rollout) == [(ACTOR, "rollout.start"), ("bob", "rollout.pause")]


def test_a_paused_rollout_admits_nobody(fleet: RolloutFleet) -> None:
    """Who has begun goes on; resumed, it goes on and its phase's time begins anew."""
    fleet.add(3)
    rollout = fleet.start()
    fleet.rollouts.step()
    canary = only(fleet.places(rollout))
    fleet.rollouts.control(rollout.id, "pause", actor=ACTOR)
    for _ in range(5):
        fleet.tick(by=timedelta(minutes=1))
    assert fleet.places(rollout) == {canary: DeviceState.SUCCEEDED}
    resumed = fleet.rollouts.control(rollout.id, "resume", actor=ACTOR)
    assert resumed.phases[0].started_at == fleet.clock()
    fleet.go_on(until=RolloutState.SUCCEEDED)
    assert fleet.rollouts.get(rollout.id).state is RolloutState.SUCCEEDED


def test_a_paused_rollout_goes_back_when_its_version_turns_out_bad(fleet: RolloutFleet) -> None:
    """Overnight, without a person."""
    fleet.add(3)
    rollout = fleet.start()
    fleet.rollouts.step()
    canary = only(fleet.places(rollout))
    fleet.obey()
    fleet.rollouts.control(rollout.id, "pause", actor=ACTOR)
    fleet.answers(canary, 2, calls=1000, errors=1000)
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    assert set(fleet.serving().values()) == {1}


def test_promote_goes_on_without_waiting(fleet: RolloutFleet) -> None:
    """To the next phase, and from the last one to the end."""
    fleet.add(3)
    rollout = fleet.start()
    promoted = fleet.rollouts.control(rollout.id, "promote", actor=ACTOR)
    assert (promoted.state, promoted.phase) == (RolloutState.RUNNING, 1)
    ended = fleet.rollouts.control(rollout.id, "promote", actor=ACTOR)
    assert ended.state is RolloutState.SUCCEEDED
    assert set(fleet.serving().values()) == {2}


def test_abort_leaves_those_that_succeeded(fleet: RolloutFleet) -> None:
    """They keep the new version, the others go back, and the group's deployment is the old one."""
    fleet.add(4)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.rollouts.step()
    fleet.obey("d0000", "d0001")
    fleet.rollouts.step()
    aborted = fleet.rollouts.control(rollout.id, "abort", actor=ACTOR, reason="enough")
    assert aborted.state is RolloutState.ABORTED
    assert fleet.serving() == {"d0000": 2, "d0001": 2, "d0002": 1, "d0003": 1}
    assert fleet.deployments.list_deployments()[0].version == 1
    with pytest.raises(FailedPrecondition):
        fleet.rollouts.control(rollout.id, "resume", actor=ACTOR)


def test_a_deployment_clears_what_an_aborted_rollout_left(fleet: RolloutFleet) -> None:
    """Setting what is set brings all devices of the group to it."""
    fleet.add(2)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.rollouts.step()
    fleet.obey("d0000")
    fleet.rollouts.step()
    fleet.rollouts.control(rollout.id, "abort", actor=ACTOR)
    assert fleet.serving() == {"d0000": 2, "d0001": 1}
    before = fleet.deployments.desired_state("d0000").generation
    fleet.deployments.set(group=GROUP, model=MODEL, version=1, actor=ACTOR)
    assert set(fleet.serving().values()) == {1}
    assert fleet.deployments.desired_state("d0000").generation > before


def test_rolled_back_devices_get_back_what_an_aborted_rollout_left(fleet: RolloutFleet) -> None:
    """Their former version is not the group's."""
    fleet.add(2)
    aborted = fleet.start(2, plan=ALL_AT_ONCE)
    fleet.rollouts.step()
    fleet.obey("d0000")
    fleet.rollouts.step()
    fleet.rollouts.control(aborted.id, "abort", actor=ACTOR)
    rollout = fleet.start(3, plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    assert set(fleet.serving().values()) == {3}
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    assert fleet.serving() == {"d0000": 2, "d0001": 1}
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    assert set(fleet.places(rollout).values()) == {DeviceState.RETURNED}


def test_rolling_back_twice_is_rolling_back(fleet: RolloutFleet) -> None:
    """Also when it is over."""
    fleet.add(1)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.tick(by=timedelta(seconds=1))
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    assert fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR).state is RolloutState.ROLLED_BACK
    assert [action for _, action in fleet.audited(rollout)].count("rollout.roll_back") == 1


def test_unknown_rollout_and_unknown_action(fleet: RolloutFleet) -> None:
    """Each is named."""
    with pytest.raises(NotFound, match="no rollout 'nope'"):
        fleet.rollouts.control("nope", "pause", actor=ACTOR)
    with pytest.raises(InvalidArgument, match="'explode'"):
        fleet.rollouts.control(fleet.start().id, "explode", actor=ACTOR)
    for ask in (fleet.rollouts.get, fleet.rollouts.devices, fleet.rollouts.view, fleet.rollouts.revision):
        with pytest.raises(NotFound, match="no rollout 'nope'"):
            ask("nope")


# What goes on by itself


def test_looking_again_writes_nothing(fleet: RolloutFleet) -> None:
    """Where nothing is new the revision stays."""
    fleet.add(3)
    rollout = fleet.start()
    fleet.tick(by=timedelta(0))
    while fleet.rollouts.step():
        pass
    before = fleet.rollouts.revision(rollout.id)
    assert not fleet.rollouts.step()
    assert fleet.rollouts.revision(rollout.id) == before


def test_a_coordinator_that_was_killed_goes_on(fleet: RolloutFleet) -> None:
    """All that it knew is in the database: each step is another coordinator's first."""
    fleet.add(4)
    rollout = fleet.start()
    for _ in range(20):
        fleet.rollouts = fleet.coordinator()
        fleet.tick()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.SUCCEEDED


def test_coordinators_that_look_at_once_do_it_once(fleet: RolloutFleet) -> None:
    """One writes, the others look again: each phase passes once, each device is admitted once."""
    fleet.add(6)
    rollout = fleet.start()
    several = [fleet.coordinator() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(12):
            list(pool.map(lambda each: each.step(), several))
            fleet.obey()
            fleet.clock.advance(timedelta(seconds=30))
    assert fleet.rollouts.get(rollout.id).state is RolloutState.SUCCEEDED
    assert [action for _, action in fleet.audited(rollout)] == [
        "rollout.start",
        "rollout.phase_passed",
        "rollout.finished",
    ]


def test_people_and_steps_at_once(fleet: RolloutFleet) -> None:
    """A word is not lost to a step that was written at the same moment."""
    fleet.add(6)
    rollout = fleet.start()
    done = threading.Event()

    def step() -> None:
        while not done.is_set():
            fleet.rollouts.step()
            fleet.clock.advance(timedelta(seconds=1))

    with ThreadPoolExecutor(1) as pool:
        stepping = pool.submit(step)
        for _ in range(5):
            fleet.rollouts.control(rollout.id, "pause", actor=ACTOR)
            fleet.rollouts.control(rollout.id, "resume", actor=ACTOR)
        done.set()
        stepping.result()
    actions = [action for _, action in fleet.audited(rollout)]
    assert (actions.count("rollout.pause"), actions.count("rollout.resume")) == (5, 5)


def test_a_rollout_that_can_not_be_read_stops_no_other(fleet: RolloutFleet) -> None:
    """It is said once in the log, and the others go on."""
    fleet.add(1, group="field")
    broken = fleet.start()
    good = fleet.start(group="field", plan=ALL_AT_ONCE)
    table = schema.rollout
    with fleet.database.write() as connection:
        connection.execute(update(table).where(table.c.id == broken.id).values(plan={"phases": []}, phases=[]))
    with capture_logs() as logs:
        for _ in range(8):
            fleet.tick()
    assert fleet.rollouts.get(good.id).state is RolloutState.SUCCEEDED
    assert [log["rollout"] for log in logs if log["log_level"] == "error"] == [broken.id]


def test_a_device_that_says_strange_things_is_one_device(fleet: RolloutFleet) -> None:
    """A report of nothing leaves it on its way, until it counts as stuck."""
    fleet.add(1)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.rollouts.step()
    fleet.says("d0000", ReportedState(generation=10**9, models=()))
    fleet.rollouts.step()
    assert fleet.places(rollout) == {"d0000": DeviceState.UPDATING}
    fleet.clock.advance(timedelta(minutes=31))
    fleet.rollouts.step()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLING_BACK
    assert "stuck" in fleet.rollouts.get(rollout.id).reason


def test_lists_come_newest_first_with_counts(fleet: RolloutFleet) -> None:
    """Filtered by group, model and life."""
    fleet.add(3)
    first = fleet.start()
    fleet.rollouts.step()
    fleet.clock.advance(timedelta(seconds=1))
    second = fleet.start(3, group="field", plan=QUICK_PLAN)
    fleet.rollouts.control(second.id, "abort", actor=ACTOR)
    listed = fleet.rollouts.list_rollouts()
    assert [view.rollout.id for view in listed] == [second.id, first.id]
    assert [view.rollout.id for view in fleet.rollouts.list_rollouts(live_only=True)] == [first.id]
    assert [view.rollout.id for view in fleet.rollouts.list_rollouts(group="field")] == [second.id]
    assert fleet.rollouts.list_rollouts(model="other") == []
    assert (listed[1].counts, listed[1].group_devices) == ({(0, DeviceState.UPDATING): 1}, 3)


# Back from success


def test_what_had_succeeded_can_be_rolled_back(fleet: RolloutFleet) -> None:
    """The group runs again what it ran before, late joiners too, and it is over when they do."""
    fleet.add(2)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.go_on(until=RolloutState.SUCCEEDED)
    fleet.add()
    back = fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR, reason="complaints")
    assert (back.state, back.ended_at) == (RolloutState.ROLLING_BACK, None)
    assert set(fleet.serving().values()) == {1}
    fleet.rollouts.step()
    assert fleet.rollouts.get(rollout.id).state is RolloutState.ROLLING_BACK
    fleet.go_on(until=RolloutState.ROLLED_BACK)
    ended = fleet.rollouts.get(rollout.id)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.reason.startswith("ada: complaints; ")
    assert [record.passed for record in ended.phases] == [True]


def test_a_first_version_that_had_succeeded_is_removed(fleet: RolloutFleet) -> None:
    """The group ran nothing before."""
    (device,) = fleet.add(group="field")
    rollout = fleet.start(plan=ALL_AT_ONCE, group="field")
    fleet.go_on(until=RolloutState.SUCCEEDED)
    assert fleet.serving()[device] == 2
    fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    assert fleet.serving()[device] == 0
    assert fleet.deployments.list_deployments(group="field") == []


@pytest.mark.parametrize("since", ["deployed", "deployed-the-same", "rollout"])
def test_what_was_decided_since_is_not_undone(fleet: RolloutFleet, since: str) -> None:
    """Another deployment, or another rollout on its way, stands; nothing is written."""
    fleet.add(1)
    rollout = fleet.start(plan=ALL_AT_ONCE)
    fleet.go_on(until=RolloutState.SUCCEEDED)
    if since == "rollout":
        fleet.start(4)
    else:
        fleet.deployments.set(group=GROUP, model=MODEL, version=3, actor=ACTOR)
    if since == "deployed-the-same":
        fleet.deployments.set(group=GROUP, model=MODEL, version=2, actor=ACTOR)
    with pytest.raises(FailedPrecondition, match="was decided anew since"):
        fleet.rollouts.control(rollout.id, "roll_back", actor=ACTOR)
    assert fleet.rollouts.get(rollout.id).state is RolloutState.SUCCEEDED
    assert "rollout.roll_back" not in [action for _, action in fleet.audited(rollout)]
