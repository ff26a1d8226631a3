"""From approval to what a device verifies, with python-tuf's client as the judge."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select
from tuf.api.exceptions import ExpiredMetadataError

from edgeward.protocol.targets import SIGNED_AT_FIELD, target_path
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.errors import FailedPrecondition, NotFound, PermissionDenied
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.rollouts import Rollouts
from edgeward_coordinator.storage import Database, migrate, read_audit_entries, schema
from edgeward_coordinator.trust import Lifetimes, Trust, TrustSettings
from tests.coordinator.trust.versions import add_version
from tests.registrations import ACTOR, make_flavor, train_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward_coordinator.storage import BlobStore
    from tests.conftest import SetClock
    from tests.coordinator.trust.follower import Follower

    Enroll = Callable[[Trust], Follower]

PATH = target_path("digits", 1, "onnx-int8")


def actions(database: Database) -> list[tuple[str, str, str]]:
    """Who did what to what."""
    with database.read() as connection:
        return [(each.actor, each.action, each.subject) for each in read_audit_entries(connection)]


def add_device(database: Database, *, group: str) -> None:
    """The row of an enrolled device."""
    now = database.clock()
    values = {"own_labels": {}, "set_labels": {}, "certificate_serial": "d1", "certificate_not_after": now}
    named = {"id": "d1", "name": "d1", "group_name": group, "enrollment_key": "d1", "enrolled_at": now}
    with database.write() as connection:
        connection.execute(insert(schema.device).values(**values, **named, generation_floor=0))


def test_an_approved_version_is_found(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """Pushed it is not signed; approved it is, with all that a device decides by."""
    version = add_version(registry, "digits")
    device = enroll(trust)
    assert device.find(PATH) is None
    approval = trust.approve("digits", 1, actor="eve", reason="looks good")
    assert approval.waiting_for_roles == ()
    assert [(each.approved_by, each.is_signed) for each in approval.version.flavors] == [("eve", True)]
    found = device.find(PATH)
    assert found is not None
    assert found.flavor == version.flavors[0].flavor
    assert found.memory_bytes > found.flavor.total_bytes


def test_a_refresh_without_news_costs_two_requests(trust: Trust, enroll: Enroll) -> None:
    """Whether there is a newer root, and the timestamp."""
    device = enroll(trust)
    device.refresh()
    device.refresh()
    assert device.asked == ["2.root.json", "timestamp.json"]


def test_a_withdrawn_version_is_gone(trust: Trust, registry: Registry, database: Database, enroll: Enroll) -> None:
    """From the signed metadata and from what can be deployed; withdrawing again changes nothing."""
    add_version(registry, "digits")
    device = enroll(trust)
    trust.approve("digits", 1, actor="eve")
    assert device.find(PATH) is not None
    withdrawn = trust.withdraw("digits", 1, actor="eve", reason="wrong labels")
    assert withdrawn.waiting_for_roles == ()
    assert withdrawn.version.deployable == ()
    assert device.find(PATH) is None
    before = trust.metadata("timestamp.json")
    trust.withdraw("digits", 1, actor="eve")
    assert trust.metadata("timestamp.json") == before
    assert [action for _, action, _ in actions(database)].count("model.version.withdraw") == 1


def test_approving_again_changes_nothing(trust: Trust, registry: Registry, database: Database) -> None:
    """No new metadata, no second entry."""
    add_version(registry, "digits")
    first = trust.approve("digits", 1, actor="eve")
    before = trust.metadata("timestamp.json")
    assert trust.approve("digits", 1, actor="zoe") == first
    assert trust.metadata("timestamp.json") == before
    assert actions(database)[-1] == ("eve", "model.version.approve", "digits:1")


def test_who_approved_what_and_why_is_in_the_log(trust: Trust, registry: Registry, database: Database) -> None:
    """By digest: the entry says exactly which bytes were approved."""
    version = add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve", reason="tested on the bench")
    with database.read() as connection:
        *_, entry = read_audit_entries(connection)
    assert "tested on the bench" in entry.detail
    assert version.flavors[0].flavor.digest in entry.detail


def test_a_flavor_that_joins_later_needs_its_own_approval(trust: Trust, registry: Registry) -> None:
    """What somebody approved is what was there."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    registry.add_flavor("digits", 1, make_flavor(registry, form="tflite"), actor=ACTOR)
    assert [each.name for each in registry.get_version("digits", 1).deployable] == ["onnx-int8"]
    approved = trust.approve("digits", 1, actor="zoe").version
    assert [each.name for each in approved.deployable] == ["onnx-int8", "tflite-int8"]
    assert {each.approved_by for each in approved.flavors} == {"eve", "zoe"}


def test_only_arrays_can_not_be_approved(trust: Trust, registry: Registry, database: Database, tmp_path: Path) -> None:
    """No device runs them; the message says what to do."""
    train_version(registry, database, tmp_path)
    with pytest.raises(FailedPrecondition, match="compress it first"):
        trust.approve("digits", 1, actor="eve")


def test_arrays_beside_a_model_stay_out_of_the_metadata(
    trust: Trust, registry: Registry, database: Database, enroll: Enroll, tmp_path: Path
) -> None:
    """They are approved by nobody and signed by nobody."""
    train_version(registry, database, tmp_path)
    registry.add_flavor("digits", 1, make_flavor(registry), actor=ACTOR)
    approved = trust.approve("digits", 1, actor="eve")
    assert approved.waiting_for_roles == ()
    assert [each.flavor.name for each in approved.version.flavors if each.is_approved] == ["onnx-int8"]
    assert enroll(trust).find(target_path("digits", 1, "arrays-fp32")) is None


def test_another_one_must_approve_where_so_configured(
    database: Database, registry: Registry, folder: Path, clock: SetClock
) -> None:
    """Than who pushed it."""
    trust = Trust(database, registry, folder, clock=clock, settings=TrustSettings(approval="other"))
    trust.ensure()
    add_version(registry, "digits", by="ada")
    with pytest.raises(PermissionDenied, match="pushed by 'ada'"):
        trust.approve("digits", 1, actor="ada")
    assert trust.approve("digits", 1, actor="eve").version.deployable


def test_whose_flavor_it_is_does_not_approve_it(
    database: Database, registry: Registry, folder: Path, clock: SetClock
) -> None:
    """Nor does whoever had a job make it: what the job made is its owner's, whoever pushed the version."""
    trust = Trust(database, registry, folder, clock=clock, settings=TrustSettings(approval="other"))
    trust.ensure()
    add_version(registry, "digits", by="ada")
    made = registry.add_flavor("digits", 1, make_flavor(registry, form="tflite"), actor="bob", job_id="7")
    assert made.created_by == "bob"
    assert actions(database)[-1] == ("bob (job 7)", "model.flavor.add", "digits:1")
    with pytest.raises(PermissionDenied, match="tflite-int8 of digits:1 was made by 'bob'"):
        trust.approve("digits", 1, actor="bob")
    assert len(trust.approve("digits", 1, actor="eve").version.deployable) == 2


@pytest.mark.parametrize("number", [1, 2], ids=["from", "to"])
def test_what_a_rollout_needs_is_not_withdrawn(
    trust: Trust, registry: Registry, database: Database, number: int
) -> None:
    """Neither where it leads nor what it would go back to, until it is over."""
    for version in (1, 2):
        add_version(registry, "digits", content=bytes([version]))
        trust.approve("digits", version, actor="eve")
    deployments = Deployments(database)
    deployments.set(group="lab", model="digits", version=1, actor=ACTOR)
    add_device(database, group="lab")
    rollouts = Rollouts(database, deployments, clock=database.clock, online=lambda _: set())
    rollout = rollouts.start(model="digits", version=2, group="lab", actor=ACTOR)
    before = trust.metadata("timestamp.json")
    with pytest.raises(FailedPrecondition, match=f"{rollout.id} to group 'lab' is not over") as refused:
        trust.withdraw("digits", number, actor="eve")
    assert f"rollouts abort {rollout.id}" in refused.value.hint
    assert trust.metadata("timestamp.json") == before
    assert registry.get_version("digits", number).deployable
    rollouts.control(rollout.id, "abort", actor=ACTOR)
    assert trust.withdraw("digits", number, actor="eve").version.deployable == ()


def test_a_deployed_version_can_be_withdrawn(trust: Trust, registry: Registry, database: Database) -> None:
    """Its devices serve on, and the audit log names their groups."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    deployments = Deployments(database)
    deployments.set(group="lab", model="digits", actor=ACTOR)
    trust.withdraw("digits", 1, actor="eve")
    with database.read() as connection:
        *_, entry = read_audit_entries(connection)
    assert '"deployed_to":["lab"]' in entry.detail
    assert [each.version for each in deployments.list_deployments()] == [1]


def test_what_is_not_there_is_not_found(trust: Trust) -> None:
    """Neither approved nor withdrawn."""
    for act in (trust.approve, trust.withdraw):
        with pytest.raises(NotFound):
            act("nothing", 1, actor="eve")


def test_deployed_devices_hear_of_a_signature(trust: Trust, registry: Registry, database: Database) -> None:
    """A flavor that is signed, or no longer, gives what is deployed a new generation, and no new release."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    deployments = Deployments(database)
    deployments.set(group="lab", model="digits", actor=ACTOR)
    for change in (trust.withdraw, trust.approve):
        generation = deployments.generation()
        (before,) = deployments.list_deployments()
        change("digits", 1, actor="eve")
        (after,) = deployments.list_deployments()
        assert after.generation > generation
        assert after.release == before.release


@pytest.mark.parametrize("approved", ["", "approved"], ids=["pushed", "approved"])
def test_what_is_not_signed_can_not_be_deployed(
    trust: Trust, registry: Registry, database: Database, folder: Path, approved: str
) -> None:
    """And the message says what is missing: an approval or a signature."""
    add_version(registry, "digits")
    if approved:
        next((folder / "keys").glob("targets-*")).unlink()
        assert trust.approve("digits", 1, actor="eve").waiting_for_roles == ("targets",)
    with pytest.raises(FailedPrecondition, match="trust export" if approved else "models approve digits:1"):
        Deployments(database).set(group="lab", model="digits", actor=ACTOR)


def test_metadata_has_strict_names(trust: Trust) -> None:
    """What is no name of metadata is not there, whatever it is."""
    trust.metadata("1.root.json")
    for name in (
        "root.json",
        "0.root.json",
        "01.root.json",
        "1.timestamp.json",
        "9.root.json",
        "../1.root.json",
        "1.root.json\n",
        "1..json",
        "",
        "targets.json",
        "1.ROOT.json",
        "1" * 30 + ".root.json",
        "1.root",
        "\u00e9.json",
    ):
        with pytest.raises(NotFound):
            trust.metadata(name)


def test_the_timestamp_says_when_it_was_signed(trust: Trust, clock: SetClock) -> None:
    """A device's lower bound for its clock."""
    from tuf.api.metadata import Metadata, Timestamp

    signed = Metadata[Timestamp].from_bytes(trust.metadata("timestamp.json")).signed
    assert datetime.fromisoformat(signed.unrecognized_fields[SIGNED_AT_FIELD]) == clock()


def test_metadata_never_expires_while_somebody_renews_it(
    trust: Trust, registry: Registry, enroll: Enroll, clock: SetClock
) -> None:
    """Two years of renewals, a device that comes once a month; every role is signed anew, root too."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    device = enroll(trust)
    for day in range(0, 2 * 365, 5):
        clock.advance(timedelta(days=5))
        trust.renew()
        if day % 30 == 0:
            assert device.find(PATH) is not None
    assert device.refresh()._trusted_set.root.version >= 4


def test_renewing_what_is_fresh_changes_nothing(trust: Trust, clock: SetClock) -> None:
    """Before half of the timestamp's life."""
    before = trust.metadata("timestamp.json")
    clock.advance(timedelta(hours=11, minutes=59))
    trust.renew()
    assert trust.metadata("timestamp.json") == before
    clock.advance(timedelta(minutes=2))
    trust.renew()
    assert trust.metadata("timestamp.json") != before


def test_a_coordinator_that_is_away_too_long_is_not_believed(trust: Trust, enroll: Enroll, clock: SetClock) -> None:
    """Its timestamp expires; with the next renewal all is well again."""
    device = enroll(trust)
    device.refresh()
    clock.advance(timedelta(days=2))
    with pytest.raises(ExpiredMetadataError):
        device.refresh()
    trust.renew()
    device.refresh()


def test_lifetimes_can_be_seconds(
    database: Database, registry: Registry, folder: Path, clock: SetClock, enroll: Enroll
) -> None:
    """As in tests of devices."""
    lives = Lifetimes(
        root=timedelta(seconds=40), targets=timedelta(seconds=20), snapshot=timedelta(seconds=10),
        timestamp=timedelta(seconds=4),
    )  # fmt: skip
    trust = Trust(database, registry, folder, clock=clock, settings=TrustSettings(lifetimes=lives))
    trust.ensure()
    device = enroll(trust)
    for _ in range(60):
        clock.advance(timedelta(seconds=1))
        trust.renew()
        device.refresh()


def test_only_a_few_old_files_are_kept_but_every_root(trust: Trust, clock: SetClock, database: Database) -> None:
    """Devices that slept walk from root to root."""
    for _ in range(40):
        clock.advance(timedelta(days=30))
        trust.renew()
    table = schema.trust_metadata
    with database.read() as connection:
        rows = connection.execute(select(table.c.role, table.c.version)).all()
    kept = {role: sorted(version for each, version in rows if each == role) for role, _ in rows}
    assert kept["root"] == list(range(1, kept["root"][-1] + 1))
    assert len(kept["root"]) > 3
    assert {len(kept[role]) for role in ("snapshot", "timestamp")} == {8}


def test_the_oldest_drop_out_of_a_full_role(
    database: Database,
    registry: Registry,
    folder: Path,
    clock: SetClock,
    enroll: Enroll,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is deployed stays; what dropped out comes back when it is approved again."""
    trust = Trust(database, registry, folder, clock=clock, settings=TrustSettings(max_targets=3))
    trust.ensure()

    def signed() -> list[int]:
        return sorted(each.number for each in registry.list_versions("digits") if each.deployable)

    for number in range(1, 4):
        add_version(registry, "digits", content=f"v{number}".encode())
        clock.advance(timedelta(minutes=1))
        trust.approve("digits", number, actor="eve")
    Deployments(database).set(group="lab", model="digits", version=1, actor=ACTOR)
    add_version(registry, "digits", content=b"v4")
    clock.advance(timedelta(minutes=1))
    with caplog.at_level(logging.WARNING):
        trust.approve("digits", 4, actor="eve")
    assert signed() == [1, 3, 4]
    assert "models/digits/2/onnx-int8 is approved and no longer signed" in caplog.text
    clock.advance(timedelta(minutes=1))
    trust.approve("digits", 2, actor="eve")
    assert signed() == [1, 2, 4]
    assert enroll(trust).find(target_path("digits", 3, "onnx-int8")) is None


def test_coordinators_that_start_together_make_one_root(
    database_url: str, database: Database, blobs: BlobStore, clock: SetClock, tmp_path: Path
) -> None:
    """One of them has the keys; the others say which files they need, and start once they have them."""

    def start(number: int) -> str:
        own = Database(database_url, clock=clock)
        registry = Registry(own, blobs, tmp_path / f"scratch-{number}")
        try:
            Trust(own, registry, tmp_path / str(number), clock=clock).ensure()
        except FailedPrecondition as error:
            return error.message
        finally:
            own.close()
        return ""

    migrate(database)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(start, range(4)))
    assert outcomes.count("") == 1
    winner = outcomes.index("")
    loser = (winner + 1) % 4
    keys = {key.name: key.read_bytes() for key in (tmp_path / str(winner) / "keys").iterdir()}
    assert {key.name for key in tmp_path.glob("*/keys/*.pem")} == keys.keys()
    assert next(name for name in keys if name.startswith("snapshot")) in outcomes[loser]
    (tmp_path / str(loser) / "keys").mkdir(parents=True)
    for name, content in keys.items():
        (tmp_path / str(loser) / "keys" / name).write_bytes(content)
    assert start(loser) == ""


def test_a_lost_folder_never_makes_a_second_root(
    trust: Trust, database: Database, registry: Registry, clock: SetClock, tmp_path: Path
) -> None:
    """It is refused in words, and nothing is made."""
    before = trust.root()
    other = Trust(database, registry, tmp_path / "elsewhere", clock=clock)
    with pytest.raises(FailedPrecondition, match=r"snapshot-[0-9a-f]{12}\.pem"):
        other.ensure()
    assert trust.root() == before
    assert not list((tmp_path / "elsewhere").rglob("*.pem"))


def test_a_second_start_makes_nothing(trust: Trust) -> None:
    """The keys and the root are there."""
    before = trust.root()
    assert trust.ensure() == []
    assert trust.root() == before


def test_keys_are_for_their_owner_alone(trust: Trust, folder: Path) -> None:
    """Mode 0600, one file a key."""
    paths = sorted((folder / "keys").iterdir())
    assert [path.name.split("-")[0] for path in paths] == ["root", "snapshot", "targets", "timestamp"]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert trust.roles().keys[0].held


def test_coordinators_that_publish_together_do_not_fork(
    trust: Trust, registry: Registry, database_url: str, blobs: BlobStore, clock: SetClock, folder: Path,
    tmp_path: Path, enroll: Enroll,
) -> None:  # fmt: skip
    """Two on one database approve at the same time; a device sees all of it."""
    for number in range(12):
        add_version(registry, f"model-{number}")

    def approve(numbers: range) -> None:
        own = Database(database_url, clock=clock)
        scratch = Registry(own, blobs, tmp_path / f"scratch-{numbers.start}")
        other = Trust(own, scratch, folder, clock=clock)
        for number in numbers:
            other.approve(f"model-{number}", 1, actor="eve")
        own.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(approve, [range(6), range(6, 12)]))
    device = enroll(trust)
    updater = device.refresh()
    assert all(updater.get_targetinfo(target_path(f"model-{number}", 1, "onnx-int8")) for number in range(12))


def test_what_breaks_off_while_publishing_leaves_all_as_it_was(
    trust: Trust, registry: Registry, database: Database, enroll: Enroll, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every statement of the transaction: metadata, approval and audit stay together."""
    add_version(registry, "digits")
    device = enroll(trust)
    device.refresh()
    before, entries = trust.metadata("timestamp.json"), actions(database)
    for broken in ("approve_flavor", "_insert_metadata", "_replace_pending", "mark_signed", "renew_version"):
        with monkeypatch.context() as context:
            context.setattr(f"edgeward_coordinator.trust.store.{broken}", _break)
            if broken == "_replace_pending":
                next((trust._keys.folder).glob("targets-*")).rename(trust._keys.folder / "away")
            with pytest.raises(RuntimeError):
                trust.approve("digits", 1, actor="eve")
            if broken == "_replace_pending":
                (trust._keys.folder / "away").rename(trust._keys.folder / "targets-back.pem")
        assert (trust.metadata("timestamp.json"), actions(database)) == (before, entries)
        assert not registry.get_version("digits", 1).flavors[0].is_approved
        device.refresh()
    trust.approve("digits", 1, actor="eve")
    assert device.find(PATH) is not None


def _break(*_: object, **__: object) -> None:
    raise RuntimeError("power failed")
