"""Keys that change: every role, through several versions, with keys that are elsewhere; and projects."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tuf.api.exceptions import RepositoryError

from edgeward.protocol.targets import target_path
from edgeward_coordinator.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from edgeward_coordinator.trust import TOP_ROLES, Trust, generate_key, sign_document
from edgeward_coordinator.trust.keys import parse_public_key
from tests.coordinator.trust.versions import add_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.storage import Database
    from edgeward_coordinator.trust import TrustRole
    from tests.conftest import SetClock
    from tests.coordinator.trust.follower import Follower

    Enroll = Callable[[Trust], Follower]

PATH = target_path("digits", 1, "onnx-int8")


def role_of(trust: Trust, name: str) -> TrustRole:
    """Its state."""
    return next(role for role in trust.roles().roles if role.name == name)


def take_away(folder: Path, role: str) -> bytes:
    """The only key of a role leaves the coordinator."""
    (path,) = (folder / "keys").glob(f"{role}-*.pem")
    content = path.read_bytes()
    path.unlink()
    return content


def id_of(public: bytes) -> str:
    """The key's id."""
    return parse_public_key(public).keyid


@pytest.mark.parametrize("role", TOP_ROLES)
def test_a_held_key_is_replaced_in_one_call(trust: Trust, registry: Registry, enroll: Enroll, role: str) -> None:
    """A device that slept through many rotations walks from root to root, and finds what it knew."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    device, sleeper = enroll(trust), enroll(trust)
    device.refresh()
    former = role_of(trust, role).key_ids
    for _ in range(5):
        assert trust.change_role(role, actor="eve") == ()
        assert device.find(PATH) is not None
    assert role_of(trust, role).key_ids != former
    assert len(role_of(trust, role).key_ids) == 1
    assert sleeper.find(PATH) is not None
    assert role_of(trust, "root").version == 6


def test_all_roles_rotated_over_a_year_reach_a_sleeper(
    trust: Trust, registry: Registry, enroll: Enroll, clock: SetClock
) -> None:
    """Root and all others, in turn, with renewals between."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    sleeper = enroll(trust)
    sleeper.refresh()
    for number in range(12):
        clock.advance(timedelta(days=30))
        trust.change_role(TOP_ROLES[number % 4], actor="eve")
        trust.renew()
    assert sleeper.find(PATH) is not None
    assert sleeper.asked[-1] != "timestamp.json"


def test_a_root_of_two_keys_elsewhere(trust: Trust, registry: Registry, enroll: Enroll, folder: Path) -> None:
    """One signature is not enough; with the second the new root is in force, and devices follow."""
    device = enroll(trust)
    first_private, first_public = generate_key()
    second_private, second_public = generate_key()
    before = role_of(trust, "root").key_ids
    waiting = trust.change_role("root", add=[first_public, second_public], remove=before, threshold=2, actor="eve")
    assert waiting == ("root",)
    document = trust.export_pending()
    take_away(folder, "root")
    assert role_of(trust, "root").pending_signatures == 2
    assert trust.import_signed(sign_document(document, first_private), actor="eve").waiting_for_roles == ("root",)
    device.refresh()
    assert role_of(trust, "root").version == 1
    imported = trust.import_signed(sign_document(document, second_private), actor="zoe")
    assert imported.published_roles == ("root",)
    assert imported.waiting_for_roles == ()
    assert (role_of(trust, "root").version, role_of(trust, "root").threshold) == (2, 2)
    # From here on a rotation of any role waits for both.
    assert trust.change_role("timestamp", actor="eve") == ("root",)
    document = sign_document(sign_document(trust.export_pending(), first_private), second_private)
    device.refresh()
    assert trust.import_signed(document, actor="eve").published_roles == ("root",)
    device.refresh()
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    assert device.find(PATH) is not None


def test_targets_signed_elsewhere(trust: Trust, registry: Registry, enroll: Enroll, folder: Path) -> None:
    """An approval waits until somebody brought the signature; so does a withdrawal, but it stops deployment at once."""
    private = take_away(folder, "targets")
    device = enroll(trust)
    add_version(registry, "digits")
    waiting = trust.approve("digits", 1, actor="eve")
    assert waiting.waiting_for_roles == ("targets",)
    assert trust.approve("digits", 1, actor="zoe") == waiting
    assert device.find(PATH) is None
    assert role_of(trust, "targets").pending_signatures == 1
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert device.find(PATH) is not None
    assert registry.get_version("digits", 1).deployable
    withdrawn = trust.withdraw("digits", 1, actor="eve")
    assert withdrawn.waiting_for_roles == ("targets",)
    assert withdrawn.version.deployable == ()
    assert trust.import_signed(sign_document(trust.export_pending(), private), actor="eve").waiting_for_roles == ()
    assert device.find(PATH) is None
    assert trust.export_pending() == b""


def test_handing_targets_to_a_key_elsewhere_blocks_nothing(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """Until the new key has signed, the old one goes on."""
    device = enroll(trust)
    private, public = generate_key()
    former = role_of(trust, "targets").key_ids
    assert trust.change_role("targets", add=[public], remove=former, actor="eve") == ("targets",)
    add_version(registry, "digits")
    assert trust.approve("digits", 1, actor="eve").waiting_for_roles == ()
    assert device.find(PATH) is not None
    for _ in range(3):
        version = role_of(trust, "targets").version
        trust.renew()
        assert role_of(trust, "targets").version == version
    imported = trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert imported.published_roles == ("targets",)
    assert role_of(trust, "targets").key_ids == (id_of(public),)
    assert device.find(PATH) is not None
    add_version(registry, "digits")
    assert trust.approve("digits", 2, actor="eve").waiting_for_roles == ("targets",)


def test_a_stale_document_is_refused(trust: Trust, registry: Registry, folder: Path) -> None:
    """What was exported before another approval does not say what waits now."""
    private = take_away(folder, "targets")
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    stale = sign_document(trust.export_pending(), private)
    add_version(registry, "other")
    trust.approve("other", 1, actor="eve")
    with pytest.raises(FailedPrecondition, match="export again"):
        trust.import_signed(stale, actor="eve")
    assert not registry.get_version("digits", 1).deployable


def test_the_online_keys_must_be_at_hand(trust: Trust) -> None:
    """The coordinator signs with them every day, so a key from elsewhere is refused before anything changes."""
    _, public = generate_key()
    former = role_of(trust, "timestamp").key_ids
    with pytest.raises(FailedPrecondition, match="signing key of the role timestamp is missing"):
        trust.change_role("timestamp", add=[public], remove=former, actor="eve")
    assert role_of(trust, "timestamp").key_ids == former


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"role": "nobody"}, NotFound),
        ({"role": "root", "threshold": 2}, InvalidArgument),
        ({"role": "root", "remove": ["0" * 64]}, NotFound),
        ({"role": "root", "remove": [""]}, NotFound),
        ({"role": "root", "add": [b"-----BEGIN PUBLIC KEY-----"]}, InvalidArgument),
    ],
    ids=["role", "threshold", "key", "empty-key", "garbage"],
)
def test_a_change_that_can_not_be_is_refused(trust: Trust, change: dict[str, object], error: type[Exception]) -> None:
    """And changes nothing."""
    before = trust.roles()
    with pytest.raises(error):
        trust.change_role(**change, actor="eve")  # type: ignore[arg-type]
    assert trust.roles() == before


def test_the_last_key_of_a_role_stays(trust: Trust) -> None:
    """Nobody could sign any more."""
    with pytest.raises(InvalidArgument, match="with 0 keys"):
        trust.change_role("targets", remove=role_of(trust, "targets").key_ids, actor="eve")


def test_a_key_that_is_elsewhere_is_not_replaced_by_one_here(trust: Trust, folder: Path) -> None:
    """The operator is told how."""
    take_away(folder, "targets")
    with pytest.raises(FailedPrecondition, match="keygen"):
        trust.change_role("targets", actor="eve")


# Projects --------------------------------------------------------------------


def test_a_project_signs_its_own_models(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """A version of its prefix waits for its key; others do not; a device verifies both."""
    private, public = generate_key()
    assert trust.put_project("vision", prefix="vision-", public_pems=[public], actor="eve") == ("vision",)
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    device = enroll(trust)
    add_version(registry, "vision-east")
    add_version(registry, "digits")
    assert trust.approve("vision-east", 1, actor="eve").waiting_for_roles == ("vision",)
    assert trust.approve("digits", 1, actor="eve").waiting_for_roles == ()
    assert device.find(target_path("vision-east", 1, "onnx-int8")) is None
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert device.find(target_path("vision-east", 1, "onnx-int8")) is not None
    assert device.find(PATH) is not None
    assert (role_of(trust, "vision").targets, role_of(trust, "targets").targets) == (1, 1)


def test_a_project_keeps_its_threshold(trust: Trust) -> None:
    """Until another one is asked for: with other keys, and with another prefix alone."""
    publics = [generate_key()[1] for _ in range(3)]
    trust.put_project("vision", prefix="vision-", public_pems=publics[:2], threshold=2, actor="eve")

    def threshold() -> int:
        return trust._ledger.read()[0].signers_of("vision").threshold

    trust.put_project("vision", prefix="vision-", public_pems=publics[1:], actor="eve")
    assert threshold() == 2
    trust.put_project("vision", prefix="sight-", actor="eve")
    assert threshold() == 2
    trust.put_project("vision", prefix="sight-", threshold=1, actor="eve")
    assert threshold() == 1


def test_a_teams_key_signs_nothing_of_others(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """A project whose metadata names another's model, signed with its own key, convinces no device."""
    from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

    from edgeward_coordinator.trust.metadata import encode, meta_file

    private, public = generate_key()
    trust.put_project("vision", prefix="vision-", public_pems=[public], actor="eve")
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    honest = Metadata[Targets].from_bytes(trust.metadata(f"{role_of(trust, 'targets').version}.targets.json"))
    evil = Metadata[Targets].from_bytes(trust.metadata("1.vision.json"))
    path = target_path("digits", 9, "onnx-int8")
    evil.signed.targets[path] = next(iter(honest.signed.targets.values()))
    evil.signed.version = 2
    signers = trust._keys.signers()
    from edgeward_coordinator.trust.keys import read_signer

    evil.sign(read_signer(private))
    number = role_of(trust, "snapshot").version
    snapshot = Metadata[Snapshot].from_bytes(trust.metadata(f"{number}.snapshot.json"))
    snapshot.signed.meta["vision.json"] = meta_file(evil)
    snapshot.signed.version = number + 1
    snapshot.sign(signers[role_of(trust, "snapshot").key_ids[0]])
    timestamp = Metadata[Timestamp].from_bytes(trust.metadata("timestamp.json"))
    timestamp.signed.snapshot_meta = meta_file(snapshot)
    timestamp.signed.version += 1
    timestamp.sign(signers[role_of(trust, "timestamp").key_ids[0]])
    forged = {
        "2.vision.json": encode(evil),
        f"{number + 1}.snapshot.json": encode(snapshot),
        "timestamp.json": encode(timestamp),
    }
    device = enroll(trust)
    device._metadata = lambda name: forged.get(name) or trust.metadata(name)
    assert device.find(path) is None
    assert device.find(PATH) is not None


def test_models_move_to_a_new_project_and_back(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """At no time is an approved one without a signature."""
    add_version(registry, "vision-east")
    path = target_path("vision-east", 1, "onnx-int8")
    trust.approve("vision-east", 1, actor="eve")
    device = enroll(trust)
    private, public = generate_key()
    trust.put_project("vision", prefix="vision", public_pems=[public], actor="eve")
    assert device.find(path) is not None
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert (role_of(trust, "vision").targets, role_of(trust, "targets").targets) == (1, 0)
    assert device.find(path) is not None
    assert trust.remove_project("vision", actor="eve") == ()
    assert role_of(trust, "targets").targets == 1
    assert device.find(path) is not None
    # A project of the same name goes on in its versions: devices that saw the former one believe nothing older.
    add_version(registry, "vision-east")
    trust.approve("vision-east", 2, actor="eve")
    trust.put_project("vision", prefix="vision", public_pems=[public], actor="eve")
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert role_of(trust, "vision").version == 2
    assert device.find(path) is not None


def test_the_longest_prefix_counts(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """Whichever project came first."""
    for name, prefix in (("broad", "v"), ("narrow", "vision-e"), ("middle", "vision")):
        assert trust.put_project(name, prefix=prefix, actor="eve") == ()
    device = enroll(trust)
    for model in ("vision-east", "vision-west", "voice"):
        add_version(registry, model)
        assert trust.approve(model, 1, actor="eve").waiting_for_roles == ()
        assert device.find(target_path(model, 1, "onnx-int8")) is not None
    assert [role_of(trust, name).targets for name in ("narrow", "middle", "broad", "targets")] == [1, 1, 1, 0]


def test_a_project_changes_its_key(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """The old key's metadata stays good until the new key has signed."""
    old_private, old_public = generate_key()
    new_private, new_public = generate_key()
    trust.put_project("vision", prefix="vision", public_pems=[old_public], actor="eve")
    add_version(registry, "vision")
    trust.approve("vision", 1, actor="eve")
    trust.import_signed(sign_document(trust.export_pending(), old_private), actor="eve")
    device, path = enroll(trust), target_path("vision", 1, "onnx-int8")
    assert device.find(path) is not None
    assert trust.change_role("vision", add=[new_public], remove=[id_of(old_public)], actor="eve") == ("vision",)
    assert device.find(path) is not None
    assert trust.import_signed(sign_document(trust.export_pending(), new_private), actor="eve").waiting_for_roles == ()
    assert role_of(trust, "vision").key_ids == (id_of(new_public),)
    assert device.find(path) is not None
    assert enroll(trust).find(path) is not None


def test_a_project_that_nobody_signs_for_blocks_nobody(trust: Trust, registry: Registry, enroll: Enroll) -> None:
    """Other models are approved and signed meanwhile, its own prefix too until the project is in force."""
    _, public = generate_key()
    trust.put_project("vision", prefix="vision", public_pems=[public], actor="eve")
    device = enroll(trust)
    for model in ("digits", "vision-east"):
        add_version(registry, model)
        assert trust.approve(model, 1, actor="eve").waiting_for_roles == ()
        assert device.find(target_path(model, 1, "onnx-int8")) is not None
    assert role_of(trust, "vision").version == 0


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("root", "x"), ("timestamp", "x"), ("a.b", "x"), ("", "x"), ("A", "x"), ("../x", "x"), ("x" * 64, "x"),
     ("ok", ""), ("ok", "*"), ("ok", "a/b"), ("ok", "a?"), ("ok", "[ab]"), ("ok", "-x"), ("ok", "x" * 64)],
)  # fmt: skip
def test_names_and_prefixes_are_checked(trust: Trust, name: str, prefix: str) -> None:
    """They become names of files and patterns of paths."""
    before = trust.roles()
    with pytest.raises(InvalidArgument):
        trust.put_project(name, prefix=prefix, actor="eve")
    assert trust.roles() == before


def test_a_prefix_belongs_to_one_project(trust: Trust) -> None:
    """Else which one signs would depend on their names."""
    trust.put_project("one", prefix="vision", actor="eve")
    with pytest.raises(AlreadyExists, match="'one'"):
        trust.put_project("two", prefix="vision", actor="eve")
    with pytest.raises(NotFound):
        trust.remove_project("two", actor="eve")


def test_an_expired_project_does_not_keep_others_from_their_updates(
    trust: Trust, registry: Registry, enroll: Enroll, clock: SetClock, database: Database
) -> None:
    """A team that does not sign anew shuts out its own models only."""
    private, public = generate_key()
    trust.put_project("vision", prefix="vision", public_pems=[public], actor="eve")
    add_version(registry, "vision-east")
    add_version(registry, "digits")
    trust.approve("vision-east", 1, actor="eve")
    trust.approve("digits", 1, actor="eve")
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    device = enroll(trust)
    for _ in range(100):
        clock.advance(timedelta(days=1))
        trust.renew()
    assert device.find(PATH) is not None
    with pytest.raises(RepositoryError):
        device.find(target_path("vision-east", 1, "onnx-int8"))
    assert role_of(trust, "vision").pending_signatures == 1
    trust.import_signed(sign_document(trust.export_pending(), private), actor="eve")
    assert device.find(target_path("vision-east", 1, "onnx-int8")) is not None
    del database
