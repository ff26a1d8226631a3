"""What is shown before it is signed: whatever a coordinator that was taken over slips in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, TargetFile, Targets, Timestamp

from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.trust import describe_document, generate_key
from edgeward_coordinator.trust.charter import Project, RoleKeys
from edgeward_coordinator.trust.document import MAX_DOCUMENT_BYTES, WaitingRole, write_document
from edgeward_coordinator.trust.keys import parse_public_key, read_signer
from edgeward_coordinator.trust.metadata import delegations_to
from tests.coordinator.trust.versions import add_version

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.trust import RoleDescription, Trust

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
PRIVATE, PUBLIC = generate_key()
KEY = parse_public_key(PUBLIC)
OTHER = parse_public_key(generate_key()[1])


def files(**digests: str) -> dict[str, TargetFile]:
    """By the model's name; of 5 bytes each."""
    paths = {name: f"models/{name}/1/onnx" for name in digests}
    return {
        paths[name]: TargetFile(
            5, {"sha256": digest * 64}, paths[name], {"custom": {"edgeward": {"golden_sha256": "9" * 64}}}
        )
        for name, digest in digests.items()
    }


def targets(version: int, found: dict[str, TargetFile], *, prefixes: dict[str, str] | None = None) -> Metadata[Targets]:
    """With a project a prefix, of the one key."""
    signers = RoleKeys(keys={KEY.keyid: KEY})
    projects = {name: Project(prefix=prefix, signers=signers) for name, prefix in (prefixes or {}).items()}
    delegations = delegations_to(projects) if projects else None
    return Metadata(Targets(version=version, expires=EXPIRES, targets=found, delegations=delegations))


def document_of(new: Metadata[Any], former: Metadata[Any] | None, *, role: str = "targets") -> bytes:
    """What would be exported."""
    waits = WaitingRole(role=role, metadata=new, key_ids=(KEY.keyid,), missing=1, former=former)
    return write_document([waits])


def describe(new: Metadata[Any], former: Metadata[Any] | None) -> RoleDescription:
    """What the owner of the key sees."""
    (description,) = describe_document(document_of(new, former), [(PRIVATE, None)])
    return description


def test_files_are_marked_by_what_becomes_of_them() -> None:
    """New, gone, other bytes under the same path; what stays comes last."""
    shown = describe(targets(4, files(a="1", b="2", d="4")), targets(3, files(a="1", b="3", c="5")))
    assert [(each.path.split("/")[1], each.mark, each.sha256[0], each.differs) for each in shown.targets] == [
        ("b", "changed", "2", ("sha256",)),
        ("c", "gone", "5", ()),
        ("d", "new", "4", ()),
        ("a", "as before", "1", ()),
    ]
    assert {(each.golden_sha256, each.total_bytes) for each in shown.targets} == {("9" * 64, 5)}


def test_another_golden_set_is_a_change() -> None:
    """The file alone is not what a device runs."""
    changed = files(a="1")
    changed["models/a/1/onnx"].unrecognized_fields["custom"]["edgeward"]["golden_sha256"] = "8" * 64
    (shown,) = describe(targets(4, changed), targets(3, files(a="1"))).targets
    assert (shown.mark, shown.golden_sha256, shown.differs) == ("changed", "8" * 64, ("golden_sha256",))


def test_without_a_former_version_everything_is_new() -> None:
    """And nothing is said to be verified."""
    shown = describe(targets(4, files(a="1"), prefixes={"team": "a-"}), None)
    marks = {each.mark for rows in (shown.targets, shown.keys, shown.delegations) for each in rows}
    assert marks == {"new"}
    assert (shown.former_version, shown.is_former_verified) == (None, False)


def test_a_delegation_that_comes_goes_or_changes_is_shown() -> None:
    """With its paths and keys."""
    shown = describe(targets(4, {}, prefixes={"a": "x-", "b": "b-"}), targets(3, {}, prefixes={"a": "a-", "c": "c-"}))
    assert [(each.name, each.mark, each.paths) for each in shown.delegations] == [
        ("a", "changed", ("models/x-*/*/*",)),
        ("b", "new", ("models/b-*/*/*",)),
        ("c", "gone", ("models/c-*/*/*",)),
    ]
    assert {(each.role, each.mark) for each in shown.keys} == {("a", "as before"), ("b", "new"), ("c", "gone")}


def test_another_key_under_a_known_id_is_a_change() -> None:
    """An id is only a name: the public part counts."""
    forged = targets(4, {}, prefixes={"team": "a-"})
    forged.signed.delegations.keys[KEY.keyid].keyval = dict(OTHER.keyval)  # type: ignore[union-attr]
    fields = json.loads(document_of(forged, None))["roles"][0]["metadata"]
    genuine = targets(3, {}, prefixes={"team": "a-"})
    genuine.signed.delegations.keys[KEY.keyid].keyval = dict(parse_public_key(PUBLIC).keyval)  # type: ignore[union-attr]
    (key,) = describe(Metadata[Targets].from_dict(fields), genuine).keys
    assert (key.mark, key.key_id) == ("changed", KEY.keyid)


def test_a_former_version_counts_where_the_key_has_signed_it() -> None:
    """As the version right before; else it is the coordinator's word."""
    former = targets(3, files(a="1"))
    assert not describe(targets(4, {}), former).is_former_verified
    former.sign(read_signer(PRIVATE))
    assert describe(targets(4, {}), former).is_former_verified
    assert not describe(targets(5, {}), former).is_former_verified
    former.signed.targets |= files(b="2")
    assert not describe(targets(4, {}), former).is_former_verified


@pytest.mark.parametrize(
    "document",
    [
        document_of(targets(4, {}), None, role="root"),
        document_of(Metadata(Timestamp(expires=EXPIRES)), None, role="timestamp"),
        document_of(targets(4, {"models/\x1b[2K": TargetFile(1, {"sha256": "0"}, "models/\x1b[2K")}), None),
        document_of(targets(4, {"a": TargetFile(1, {"sha512": "0"}, "a")}), None),
        b"once upon a time",
    ],
    ids=["targets-as-root", "timestamp", "escape", "without-sha256", "story"],
)
def test_what_cannot_be_shown_is_refused(document: bytes) -> None:
    """Rather than signed unseen."""
    with pytest.raises(InvalidArgument):
        describe_document(document)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5)
)
def test_any_custom_object(custom: Any) -> None:
    """Is shown or refused in words."""
    found = {"a": TargetFile(1, {"sha256": "0"}, "a", {"custom": {"edgeward": custom}})}
    try:
        assert describe_document(document_of(targets(4, found), None))[0].targets[0].path == "a"
    except InvalidArgument:
        assert not isinstance(custom, dict) or "golden_sha256" in custom


@given(st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5))
def test_any_former_version(former: Any) -> None:
    """Is refused in words, unless there is none."""
    document = json.loads(document_of(targets(4, {}), None))
    document["roles"][0]["former"] = former
    if former is None:
        assert describe_document(json.dumps(document).encode())[0].former_version is None
        return
    with pytest.raises(InvalidArgument):
        describe_document(json.dumps(document).encode())


def test_a_former_version_that_is_too_long_is_left_out() -> None:
    """What waits fits into one message all the same."""
    name = "models/" + "a" * (1200 << 10)
    long = targets(4, {name: TargetFile(1, {"sha256": "0"}, name)})
    document = document_of(long, long)
    assert len(document) < MAX_DOCUMENT_BYTES
    assert describe_document(document)[0].former_version is None


def test_an_export_has_what_is_in_force(trust: Trust, registry: Registry, folder: Path) -> None:
    """So that the second model is told from the first, which the same key has signed."""
    add_version(registry, "digits")
    trust.approve("digits", 1, actor="eve")
    path = next((folder / "keys").glob("targets-*"))
    private = path.read_bytes()
    path.unlink()
    add_version(registry, "words")
    trust.approve("words", 1, actor="eve")
    (shown,) = describe_document(trust.export_pending(), [(private, None)])
    assert shown.is_former_verified
    assert {(each.path.split("/")[1], each.mark) for each in shown.targets} == {
        ("words", "new"),
        ("digits", "as before"),
    }
