"""Desired states: by group, ordered by generation, of what devices can run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, update

from edgeward.protocol.state import (
    CandidateMode,
    DesiredState,
    ModelState,
    ProbationRules,
    ReportedModel,
    ReportedState,
)
from edgeward_coordinator.deployment import Deployments, store
from edgeward_coordinator.deployment.assignment import Assignment
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound
from edgeward_coordinator.fleet.documents import reported_to_document
from edgeward_coordinator.rollouts import Rollouts
from edgeward_coordinator.storage import next_generation, read_audit_entries, schema
from edgeward_coordinator.trust.store import renew_version
from tests.registrations import ACTOR, evaluation, make_flavor, sign_everything, train_version

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.storage import Database


@pytest.fixture
def deployments(database: Database) -> Deployments:
    """Nothing deployed."""
    return Deployments(database)


@pytest.fixture
def digits(registry: Registry, database: Database, tmp_path: Path) -> Registry:
    """The model digits: version 1 with onnx-int8 and onnx-fp32, version 2 with onnx-int8, version 3 of arrays only."""
    for number, precisions in ((1, ("fp32", "int8")), (2, ("int8",)), (3, ())):
        train_version(registry, database, tmp_path, run_id=f"{number:016x}")
        for precision in precisions:
            flavor = make_flavor(registry, precision=precision, content=f"{number}{precision}".encode())  # type: ignore[arg-type]
            registry.add_flavor("digits", number, flavor, evaluation(), actor=ACTOR)
    sign_everything(database)
    return registry


def add_device(
    database: Database,
    device_id: str = "00000000000000d1",
    *,
    group: str = "barn",
    floor: int = 0,
    reported: ReportedState | None = None,
    revoked_at: datetime | None = None,
) -> str:
    """The row of an enrolled device."""
    values = {
        "id": device_id,
        "name": device_id,
        "group_name": group,
        "own_labels": {},
        "set_labels": {},
        "certificate_serial": device_id,
        "certificate_not_after": database.clock(),
        "enrollment_key": device_id,
        "enrolled_at": database.clock(),
        "revoked_at": revoked_at,
        "reported": reported_to_document(reported) if reported else None,
        "generation_floor": floor,
    }
    with database.write() as connection:
        connection.execute(insert(schema.device).values(values))
    return device_id


def shown(desired: DesiredState) -> list[tuple[str, int, list[str]]]:
    """Model, version and flavors in their order."""
    return [(each.model, each.version, [flavor.name for flavor in each.flavors]) for each in desired.models]


def test_device_should_run_what_its_group_runs(deployments: Deployments, digits: Registry, database: Database) -> None:
    """The version's flavors come best first, without the arrays; other groups are untouched."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    mine = deployments.desired_state(add_device(database))
    other = deployments.desired_state(add_device(database, "00000000000000d2", group="field"))
    assert shown(mine) == [("digits", 1, ["onnx-int8", "onnx-fp32"])]
    assert shown(other) == []
    assert digits.get_version("digits", 1).deployable == mine.models[0].flavors


def test_newest_version_that_devices_can_run_is_the_default(deployments: Deployments, digits: Registry) -> None:
    """Without a version, one of bare arrays is passed over."""
    assert deployments.set(group="barn", model="digits", actor=ACTOR).version == 2
    assert deployments.set(group="field", model="digits", version=0, actor=ACTOR).version == 2


def test_every_change_takes_a_generation(deployments: Deployments, digits: Registry, database: Database) -> None:
    """Setting another version and removing it count up; a device sees each as newer."""
    device = add_device(database)
    seen = [deployments.desired_state(device).generation]
    for version in (1, 2):
        deployments.set(group="barn", model="digits", version=version, actor=ACTOR)
        seen.append(deployments.desired_state(device).generation)
    removed = deployments.remove(group="barn", model="digits", actor=ACTOR)
    seen.append(deployments.desired_state(device).generation)
    assert seen == sorted(set(seen))
    assert removed == seen[-1] == deployments.generation()
    assert shown(deployments.desired_state(device)) == []


def test_setting_what_is_set_changes_nothing(deployments: Deployments, digits: Registry, database: Database) -> None:
    """No generation, no entry of the audit log."""
    first = deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    again = deployments.set(group="barn", model="digits", version=1, actor="bob")
    assert again == first
    assert deployments.generation() == first.generation
    with database.read() as connection:
        entries = [each for each in read_audit_entries(connection) if each.action == "deployment.set"]
    assert [(each.actor, each.subject, each.detail) for each in entries] == [(ACTOR, "barn/digits", '{"version":1}')]


def test_changes_of_another_group_are_not_news(deployments: Deployments, digits: Registry, database: Database) -> None:
    """The fleet's generation moves, the device's stays."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    before = deployments.desired_state(device)
    deployments.set(group="field", model="digits", version=2, actor=ACTOR)
    assert deployments.desired_state(device) == before
    assert deployments.generation() > before.generation


def test_generation_never_goes_back_with_the_group(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """A device that is moved to a group of older deployments has a floor that keeps its next state newer."""
    deployments.set(group="field", model="digits", version=1, actor=ACTOR)
    deployments.set(group="barn", model="digits", version=2, actor=ACTOR)
    device = add_device(database, group="barn")
    before = deployments.desired_state(device).generation
    with database.write() as connection:
        moved = {"group_name": "field", "generation_floor": before + 1}
        connection.execute(update(schema.device).where(schema.device.c.id == device).values(moved))
    after = deployments.desired_state(device)
    assert after.generation == before + 1
    assert shown(after) == [("digits", 1, ["onnx-int8", "onnx-fp32"])]


def renew(database: Database, number: int) -> None:
    """What signing does when it changes which flavors of a version are offered."""
    with database.write() as connection:
        renew_version(connection, "digits", number)


def test_new_flavor_of_a_deployed_version_is_news(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """Once it is signed, for a device may have refused the others; other versions are left in peace."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    before = deployments.desired_state(device)
    for number in (2, 1):
        digits.add_flavor("digits", number, make_flavor(digits, form="tflite"), actor=ACTOR)
    renew(database, 2)
    assert deployments.desired_state(device) == before
    sign_everything(database)
    renew(database, 1)
    after = deployments.desired_state(device)
    assert after.generation > before.generation
    assert after.generation == deployments.list_deployments()[0].generation
    assert shown(after) == [("digits", 1, ["onnx-int8", "tflite-int8", "onnx-fp32"])]


def test_a_change_of_what_is_offered_is_no_new_release(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """Devices hear of it, those with an assignment too, and do not try again what they refused."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    follower, assigned = add_device(database, "d1"), add_device(database, "d2")
    assign(database, assigned, 1)
    before = [deployments.desired_state(device) for device in (follower, assigned)]
    renew(database, 1)
    after = [deployments.desired_state(device) for device in (follower, assigned)]
    assert all(new.generation > old.generation for new, old in zip(after, before, strict=True))
    assert [each.models[0].release for each in after] == [each.models[0].release for each in before]


def test_devices_are_told_to_try_again(deployments: Deployments, digits: Registry, database: Database) -> None:
    """The same version under a new release, and an entry of the audit log that says so."""
    first = deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    again = deployments.set(group="barn", model="digits", version=1, again=True, actor="bob")
    assert again.version == first.version
    assert again.release == again.generation > first.release
    desired = deployments.desired_state(device)
    assert (desired.generation, desired.models[0].release) == (again.generation, again.release)
    with database.read() as connection:
        *_, entry = read_audit_entries(connection)
    assert (entry.actor, entry.detail) == ("bob", '{"again":true,"version":1}')


def test_nothing_is_tried_again_while_a_rollout_is_on_its_way(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """As any other deployment is refused then."""
    first = deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    add_device(database)
    rollouts = Rollouts(database, deployments, clock=database.clock, online=lambda _: set())
    rollout = rollouts.start(model="digits", version=2, group="barn", actor=ACTOR)
    with pytest.raises(FailedPrecondition, match=rollout.id):
        deployments.set(group="barn", model="digits", version=1, again=True, actor=ACTOR)
    assert deployments.list_deployments()[0].release == first.release


def test_version_of_arrays_must_be_compressed_first(deployments: Deployments, digits: Registry) -> None:
    """The refusal says which command to run."""
    with pytest.raises(FailedPrecondition, match="digits:3 is only trained arrays") as refused:
        deployments.set(group="barn", model="digits", version=3, actor=ACTOR)
    assert "edgeward models compress digits:3" in refused.value.hint


def test_model_of_arrays_alone_has_no_default(
    deployments: Deployments, registry: Registry, database: Database, tmp_path: Path
) -> None:
    """Where no version can be run, the newest is the one to compress."""
    train_version(registry, database, tmp_path, run_id="00000000000000a1")
    train_version(registry, database, tmp_path, run_id="00000000000000a2")
    with pytest.raises(FailedPrecondition, match="digits:2 is only trained arrays"):
        deployments.set(group="barn", model="digits", actor=ACTOR)


@pytest.mark.parametrize(
    ("model", "version", "words"), [("nothing", None, "no model 'nothing'"), ("digits", 9, "no version 9 of 'digits'")]
)
def test_unknown_model_or_version(
    deployments: Deployments, digits: Registry, model: str, version: int | None, words: str
) -> None:
    """What does not exist is named."""
    with pytest.raises(NotFound, match=words):
        deployments.set(group="barn", model=model, version=version, actor=ACTOR)


def test_group_needs_a_name(deployments: Deployments, digits: Registry) -> None:
    """An empty group or one with spaces is a slip of the keyboard."""
    for group in ("", "two words"):
        with pytest.raises(InvalidArgument, match="can't name a group"):
            deployments.set(group=group, model="digits", actor=ACTOR)


def test_removing_what_is_not_there_is_refused(deployments: Deployments, digits: Registry, database: Database) -> None:
    """It takes no generation, and twice is once too often."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    deployments.remove(group="barn", model="digits", actor=ACTOR)
    before = deployments.generation()
    for group in ("barn", "field"):
        with pytest.raises(NotFound, match=f"'digits' is not deployed to group '{group}'"):
            deployments.remove(group=group, model="digits", actor=ACTOR)
    assert deployments.generation() == before


def test_list_counts_the_devices_of_the_group(deployments: Deployments, digits: Registry, database: Database) -> None:
    """Revoked devices and other groups do not count."""
    release = deployments.set(group="barn", model="digits", version=1, actor=ACTOR).release
    deployments.set(group="field", model="digits", version=2, actor=ACTOR)

    def said(version: int, state: ModelState) -> ReportedState:
        model = ReportedModel(
            model="digits", version=version, flavor="onnx-int8", state=state, wanted_version=1, release=release
        )
        return ReportedState(generation=1, models=(model,))

    add_device(database, "d1", reported=said(1, ModelState.SERVING))
    add_device(database, "d2", reported=said(0, ModelState.FAILED))
    add_device(database, "d3")
    add_device(database, "d4", reported=said(1, ModelState.SERVING), revoked_at=database.clock())
    add_device(database, "d5", group="field", reported=said(1, ModelState.SERVING))
    listed = [(each.group, each.devices, each.serving, each.failed) for each in deployments.list_deployments()]
    assert listed == [("barn", 3, 1, 1), ("field", 1, 0, 0)]
    assert [each.group for each in deployments.list_deployments(group="field")] == ["field"]
    assert deployments.list_deployments(model="other") == []


def assign(database: Database, device_id: str, version: int | None, *, group: str = "barn", **changes: Any) -> int:
    """What a rollout does; returns the generation that brought it."""
    with database.write() as connection:
        release = next_generation(connection)
        assignment = Assignment(
            device_id=device_id, model="digits", group=group, rollout_id="r1", version=version, release=release
        )
        store.put_assignments(connection, [replace(assignment, **changes)])
    return release


def test_an_assignment_goes_before_the_deployment(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """For that device alone; the release and the rules are its own."""
    deployed = deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    one, other = add_device(database, "d1"), add_device(database, "d2")
    rules = ProbationRules(duration=timedelta(minutes=5), min_predictions=3, max_error_ratio=0.5)
    release = assign(database, one, 2, probation=rules)
    mine, others = deployments.desired_state(one), deployments.desired_state(other)
    assert (shown(mine), mine.generation) == ([("digits", 2, ["onnx-int8"])], release)
    assert (mine.models[0].release, mine.models[0].probation) == (release, rules)
    assert (shown(others), others.generation) == ([("digits", 1, ["onnx-int8", "onnx-fp32"])], deployed.generation)
    assert others.models[0].release == deployed.generation


def test_an_assignment_may_add_a_candidate_or_take_the_model_away(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """Beside what serves; or nothing at all."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    beside, without = add_device(database, "d1"), add_device(database, "d2")
    assign(database, beside, 1, candidate_version=2, mode="ab", share=0.25)
    assign(database, without, None)
    candidate = deployments.desired_state(beside).models[0].candidate
    assert candidate is not None
    assert (candidate.version, candidate.mode, candidate.share) == (2, CandidateMode.AB, 0.25)
    assert [flavor.name for flavor in candidate.flavors] == ["onnx-int8"]
    assert deployments.desired_state(without).models == ()


def test_an_assignment_for_another_group_does_not_apply(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """A device that was moved follows where it is now."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    before = deployments.desired_state(device)
    assign(database, device, 2, group="field")
    assert deployments.desired_state(device) == before


def test_a_deployment_clears_assignments(deployments: Deployments, digits: Registry, database: Database) -> None:
    """Of its group and model; so does a removal."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    before = assign(database, device, 2)
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    after = deployments.desired_state(device)
    assert after.models[0].version == 1
    assert after.generation > before
    assign(database, device, 2)
    deployments.remove(group="barn", model="digits", actor=ACTOR)
    assert deployments.desired_state(device).models == ()


def test_what_was_withdrawn_is_newer(deployments: Deployments, digits: Registry, database: Database) -> None:
    """The device follows its group again, under a generation that it has not seen."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    release = assign(database, device, 2)
    with database.write() as connection:
        assert store.assigned_by(connection, "r1") == [device]
        store.withdraw_assignments(connection, "r1", [device], next_generation(connection))
    after = deployments.desired_state(device)
    assert (after.models[0].version, after.generation > release) == (1, True)


def test_only_what_is_newer_is_computed(deployments: Deployments, digits: Registry, database: Database) -> None:
    """For many devices at once, in each group; unknown ones are left out."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    deployments.set(group="field", model="digits", version=2, actor=ACTOR)
    add_device(database, "d1"), add_device(database, "d2"), add_device(database, "d3", group="field")
    asked = ["d1", "d2", "d3", *(f"x{number}" for number in range(1200))]
    everything = deployments.desired_since(dict.fromkeys(asked, -1))
    assert {device: (placed.group, placed.desired) for device, placed in everything.items()} == {
        device: (group, deployments.desired_state(device))
        for device, group in (("d1", "barn"), ("d2", "barn"), ("d3", "field"))
    }
    seen = {device: placed.desired.generation for device, placed in everything.items()}
    assert deployments.desired_since(seen) == {}
    assign(database, "d2", 2)
    assert set(deployments.desired_since(seen)) == {"d2"}


def test_devices_on_another_version_neither_serve_nor_fail(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """Those that a rollout has taken elsewhere are on no way of the deployment's."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    model = ReportedModel(model="digits", version=2, flavor="onnx-int8", state=ModelState.SERVING, wanted_version=2)
    assign(database, add_device(database, reported=ReportedState(generation=2, models=(model,))), 2)
    (listed,) = deployments.list_deployments()
    assert (listed.devices, listed.serving, listed.failed) == (1, 0, 0)


def test_unknown_device_has_no_desired_state(deployments: Deployments) -> None:
    """It is not mistaken for one that should run nothing."""
    with pytest.raises(NotFound, match="no device '00000000000000ff'"):
        deployments.desired_state("00000000000000ff")


def test_concurrent_changes_take_distinct_generations(deployments: Deployments, digits: Registry) -> None:
    """However many operators deploy at once, each change has its own place in the order."""
    count = 6
    together = threading.Barrier(count)

    def deploy(index: int) -> int:
        together.wait()
        return deployments.set(group=f"g{index}", model="digits", version=1, actor=ACTOR).generation

    before = deployments.generation()
    with ThreadPoolExecutor(count) as pool:
        generations = sorted(pool.map(deploy, range(count)))
    assert generations == list(range(before + 1, before + count + 1))
