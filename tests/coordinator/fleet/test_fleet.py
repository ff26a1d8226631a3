"""What operators see and change, and what devices say of themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, insert

from edgeward.protocol.state import (
    Heartbeat,
    Hello,
    Inventory,
    ModelState,
    ReportedModel,
    ReportedState,
    RuntimeInfo,
)
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.errors import InvalidArgument, NotFound
from edgeward_coordinator.fleet import DeviceState, state_of
from edgeward_coordinator.storage import AuditLog, Database, newest_generation, schema
from tests.coordinator.fleet.joining import join

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward_coordinator.fleet import Fleet
    from tests.conftest import SetClock

_INVENTORY = Inventory(
    agent_version="0.1.0",
    architecture="aarch64",
    system="Linux 6.1",
    python="3.11.7",
    cores=4,
    memory_bytes=4 << 30,
    runtimes=(RuntimeInfo(name="onnxruntime", version="1.32.0"),),
    can_train=True,
)
_REPORTED = ReportedState(
    generation=3,
    models=(
        ReportedModel(
            model="digits", version=2, flavor="onnx-int8", state=ModelState.FAILED, wanted_version=3, error="no memory"
        ),
    ),
)
_HELLO = Hello(inventory=_INVENTORY, labels={}, reported=_REPORTED, outbox_records=7)
_HEARTBEAT = Heartbeat(
    at=datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC), outbox_records=1, outbox_bytes=2**40, resident_bytes=2**63
)


def test_a_new_device_has_said_nothing(fleet: Fleet, clock: SetClock) -> None:
    """What it is and runs is not known before its first session."""
    device = fleet.get_device(join(fleet).id)
    assert (device.enrolled_at, device.last_seen_at) == (clock.now, None)
    assert (device.inventory, device.reported, device.heartbeat) == (None, None, None)


def test_a_hello_is_remembered(fleet: Fleet, clock: SetClock) -> None:
    """Inventory and reported state come back as they were said."""
    device_id = join(fleet).id
    clock.advance(timedelta(minutes=1))
    fleet.record_hello(device_id, _HELLO)
    device = fleet.get_device(device_id)
    assert (device.inventory, device.reported, device.last_seen_at) == (_INVENTORY, _REPORTED, clock.now)


def test_a_heartbeat_is_remembered_beside_the_rest(fleet: Fleet, clock: SetClock) -> None:
    """By the coordinator's clock it was seen, whatever the device's says."""
    device_id = join(fleet).id
    fleet.record_hello(device_id, _HELLO)
    clock.advance(timedelta(minutes=1))
    fleet.record_heartbeat(device_id, _HEARTBEAT)
    device = fleet.get_device(device_id)
    assert (device.heartbeat, device.reported, device.last_seen_at) == (_HEARTBEAT, _REPORTED, clock.now)


def test_a_report_replaces_the_last(fleet: Fleet) -> None:
    """It says all that the device runs."""
    device_id = join(fleet).id
    fleet.record_hello(device_id, _HELLO)
    fleet.record_reported(device_id, ReportedState(generation=4, models=()))
    assert fleet.get_device(device_id).reported == ReportedState(generation=4, models=())


def test_being_seen_is_remembered(fleet: Fleet, clock: SetClock) -> None:
    """Without anything said."""
    device_id = join(fleet).id
    clock.advance(timedelta(minutes=1))
    fleet.record_seen(device_id)
    assert fleet.get_device(device_id).last_seen_at == clock.now


@pytest.mark.parametrize(
    "record",
    [
        lambda fleet: fleet.record_hello("0" * 16, _HELLO),
        lambda fleet: fleet.record_heartbeat("0" * 16, _HEARTBEAT),
        lambda fleet: fleet.record_reported("0" * 16, _REPORTED),
        lambda fleet: fleet.record_seen("0" * 16),
    ],
    ids=["hello", "heartbeat", "reported", "seen"],
)
def test_an_unknown_device_can_say_nothing(fleet: Fleet, record: Callable[[Fleet], None]) -> None:
    """Rather than be heard and forgotten."""
    with pytest.raises(NotFound):
        record(fleet)


def test_a_heartbeat_costs_one_update(fleet: Fleet, database: Database) -> None:
    """Ten thousand devices send one each half minute."""
    device_id = join(fleet).id
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    fleet.record_heartbeat(device_id, _HEARTBEAT)
    assert [each.split()[0] for each in statements if each.split()[0] not in {"PRAGMA", "BEGIN", "SET"}] == ["UPDATE"]


def test_what_devices_say_is_no_decision(fleet: Fleet, database: Database) -> None:
    """The audit log is of what people and tokens do."""
    device_id = join(fleet).id
    before = AuditLog(database).verify().entries
    fleet.record_hello(device_id, _HELLO)
    fleet.record_heartbeat(device_id, _HEARTBEAT)
    assert AuditLog(database).verify().entries == before


def test_a_device_that_says_too_much_is_cut(fleet: Fleet) -> None:
    """And what no database holds is left out."""
    device_id = join(fleet).id
    fleet.record_hello(device_id, replace(_HELLO, inventory=replace(_INVENTORY, system="x\0" * 10_000)))
    inventory = fleet.get_device(device_id).inventory
    assert inventory is not None
    assert inventory.system == "x" * 500


# Labels


def test_a_devices_own_labels_follow_what_it_says(fleet: Fleet) -> None:
    """From enrollment on, and anew with each hello."""
    device_id = join(fleet, labels={"room": "12", "rack": "a"}).id
    assert fleet.get_device(device_id).labels == {"room": "12", "rack": "a"}
    fleet.record_hello(device_id, replace(_HELLO, labels={"room": "13"}))
    assert fleet.get_device(device_id).labels == {"room": "13"}
    fleet.record_hello(device_id, replace(_HELLO, labels={}))
    assert fleet.get_device(device_id).labels == {}


def test_operators_labels_win_and_last(fleet: Fleet) -> None:
    """The next hello undoes neither a value that they set nor a removal."""
    device_id = join(fleet, labels={"room": "12", "rack": "a"}).id
    updated = fleet.update(device_id, group=None, set_labels={"room": "99", "rack": "", "owner": "ann"}, actor="alice")
    assert updated.labels == {"room": "99", "owner": "ann"}
    fleet.record_hello(device_id, replace(_HELLO, labels={"room": "12", "rack": "a"}))
    assert fleet.get_device(device_id).labels == {"room": "99", "owner": "ann"}


def test_an_operators_label_can_be_removed(fleet: Fleet) -> None:
    """With an empty value; one that never was is no matter."""
    device_id = join(fleet).id
    fleet.update(device_id, group=None, set_labels={"owner": "ann"}, actor="alice")
    assert fleet.update(device_id, group=None, set_labels={"owner": "", "x": ""}, actor="alice").labels == {}


def test_a_mistyped_label_does_not_keep_a_device_off(fleet: Fleet) -> None:
    """Of those in a hello, what can be a label is taken."""
    device_id = join(fleet).id
    labels = {"room": "12", "bad key": "x", "line": "a\nb", "empty": ""}
    fleet.record_hello(device_id, replace(_HELLO, labels=labels))
    assert fleet.get_device(device_id).labels == {"room": "12"}


@pytest.mark.parametrize(
    "labels",
    [{"bad key": "x"}, {"k": "a\0b"}, {"k": "x" * 200}, {f"k{number}": "x" for number in range(65)}],
    ids=["key", "null", "long", "many"],
)
def test_an_operators_bad_label_is_refused(fleet: Fleet, labels: dict[str, str]) -> None:
    """With what a label may be."""
    device_id = join(fleet).id
    with pytest.raises(InvalidArgument, match="label"):
        fleet.update(device_id, group=None, set_labels=labels, actor="alice")


# Groups


def test_moving_a_device_makes_a_new_generation(fleet: Fleet, database: Database) -> None:
    """Its desired state is newer than any it has seen, though the new group's was set long ago."""
    device_id = join(fleet).id
    with database.write() as connection:
        connection.execute(
            insert(schema.deployment).values(
                group_name="lab",
                model="digits",
                version=None,
                generation=5,
                release=5,
                created_at=database.clock(),
                created_by="a",
            )
        )
    assert fleet.get_device(device_id).desired_generation == 5
    with database.read() as connection:
        before = newest_generation(connection)
    moved = fleet.update(device_id, group="hall", set_labels={}, actor="alice")
    assert (moved.group, moved.desired_generation) == ("hall", before + 1)
    assert Deployments(database).desired_state(device_id).generation == before + 1
    assert Deployments(database).generation() == before + 1


def test_staying_in_the_group_makes_no_generation(fleet: Fleet, database: Database) -> None:
    """Nothing new is desired."""
    device_id = join(fleet, group="lab").id
    fleet.update(device_id, group="lab", set_labels={"a": "b"}, actor="alice")
    assert Deployments(database).generation() == 0


def test_desired_generations_agree_with_the_deployments(fleet: Fleet, database: Database) -> None:
    """The list shows for each device what its session would be sent."""
    devices = [join(fleet, f"edge-{number}", group=f"group-{number % 2}").id for number in range(4)]
    with database.write() as connection:
        for generation, (group, model) in enumerate([("group-0", "a"), ("group-0", "b"), ("group-1", "a")], start=1):
            numbers = {"version": None, "generation": generation, "release": generation}
            values = {**numbers, "created_at": database.clock(), "created_by": "a"}
            connection.execute(insert(schema.deployment).values(group_name=group, model=model, **values))
    shown = {device.id: device.desired_generation for device in fleet.list_devices()}
    deployments = Deployments(database)
    assert shown == {device_id: deployments.desired_state(device_id).generation for device_id in devices}


@pytest.mark.parametrize("group", ["a b", "x" * 65, "ü"])
def test_what_is_no_group_is_refused(fleet: Fleet, group: str) -> None:
    """And the device stays where it is."""
    device_id = join(fleet).id
    with pytest.raises(InvalidArgument):
        fleet.update(device_id, group=group, set_labels={}, actor="alice")
    assert fleet.get_device(device_id).group == "lab"


def test_an_update_is_audited(fleet: Fleet, database: Database) -> None:
    """With what was asked."""
    device_id = join(fleet).id
    fleet.update("edge-1", group="hall", set_labels={"a": "b"}, actor="bob")
    entry = AuditLog(database).entries(after=2, limit=1)[0]
    assert (entry.actor, entry.action, entry.subject) == ("bob", "device.update", device_id)
    assert entry.detail == '{"group":"hall","labels":{"a":"b"}}'


# Finding


def test_a_device_is_found_by_id_and_by_name(fleet: Fleet) -> None:
    """The id wins where a device is named like another's id."""
    device_id = join(fleet, "edge-1").id
    impostor = join(fleet, device_id).id
    assert fleet.resolve("edge-1") == device_id
    assert fleet.resolve(device_id) == device_id
    assert fleet.resolve(impostor) == impostor


def test_a_name_of_several_devices_is_ambiguous(fleet: Fleet) -> None:
    """The message lists their ids."""
    ids = [join(fleet, "edge-1").id for _ in range(2)]
    with pytest.raises(InvalidArgument, match="2 devices are named 'edge-1'") as caught:
        fleet.resolve("edge-1")
    assert all(device_id in str(caught.value) for device_id in ids)


def test_a_revoked_former_self_does_not_make_a_name_ambiguous(fleet: Fleet) -> None:
    """Unless there is nobody else of the name."""
    former, present = join(fleet, "edge-1").id, join(fleet, "edge-1").id
    fleet.revoke(former, reason="", actor="alice")
    assert fleet.resolve("edge-1") == present
    fleet.revoke(present, reason="", actor="alice")
    with pytest.raises(InvalidArgument):
        fleet.resolve("edge-1")


@pytest.mark.parametrize("wrong", ["", "edge-9", "x" * 5000], ids=["empty", "unknown", "long"])
def test_an_unknown_device_is_not_found(fleet: Fleet, wrong: str) -> None:
    """By whatever it was asked for."""
    with pytest.raises(NotFound):
        fleet.get_device(wrong)


def test_devices_are_listed_by_name_group_and_label(fleet: Fleet) -> None:
    """All that is asked for must hold."""
    join(fleet, "b", group="lab", labels={"room": "1", "rack": "a"})
    join(fleet, "a", group="lab", labels={"room": "1"})
    join(fleet, "C", group="hall", labels={"room": "1"})

    def names(group: str = "", **labels: str) -> list[str]:
        return [device.name for device in fleet.list_devices(group=group, labels=labels)]

    assert names() == ["C", "a", "b"]
    assert names("lab") == ["a", "b"]
    assert names(room="1", rack="a") == ["b"]
    assert names("hall", rack="a") == []
    assert names("nowhere") == []


def test_a_devices_state_is_the_strongest_that_holds(fleet: Fleet) -> None:
    """Revoked before online before never seen before offline."""
    device_id = join(fleet).id
    online = {device_id}
    assert state_of(fleet.get_device(device_id), online=set()) is DeviceState.ENROLLED
    assert state_of(fleet.get_device(device_id), online=online) is DeviceState.ONLINE
    fleet.record_seen(device_id)
    assert state_of(fleet.get_device(device_id), online=set()) is DeviceState.OFFLINE
    fleet.revoke(device_id, reason="", actor="alice")
    assert state_of(fleet.get_device(device_id), online=online) is DeviceState.REVOKED
