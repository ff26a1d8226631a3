"""Desired states: by group, ordered by generation, of what devices can run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update

from edgeward.protocol.state import DesiredState, ModelState, ReportedModel, ReportedState
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound
from edgeward_coordinator.fleet.documents import reported_to_document
from edgeward_coordinator.storage import read_audit_entries, schema
from tests.registrations import ACTOR, evaluation, make_flavor, train_version

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


def test_new_flavor_of_a_deployed_version_is_news(
    deployments: Deployments, digits: Registry, database: Database
) -> None:
    """What a device could not run yesterday may have a flavor for it today; other versions are left in peace."""
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    device = add_device(database)
    before = deployments.desired_state(device)
    digits.add_flavor("digits", 2, make_flavor(digits, form="tflite"), actor=ACTOR)
    assert deployments.desired_state(device) == before
    digits.add_flavor("digits", 1, make_flavor(digits, form="tflite"), actor=ACTOR)
    after = deployments.desired_state(device)
    assert after.generation > before.generation
    assert shown(after) == [("digits", 1, ["onnx-int8", "tflite-int8", "onnx-fp32"])]


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
    deployments.set(group="barn", model="digits", version=1, actor=ACTOR)
    deployments.set(group="field", model="digits", version=2, actor=ACTOR)

    def said(version: int, state: ModelState) -> ReportedState:
        model = ReportedModel(model="digits", version=version, flavor="onnx-int8", state=state, wanted_version=1)
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
