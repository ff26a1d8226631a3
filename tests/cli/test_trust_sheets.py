"""The trust in models as tables and sentences."""

from __future__ import annotations

from typing import Any

from edgeward.v1 import trust_pb2
from edgeward_coordinator.trust import DelegationChange, KeyChange, RoleDescription, TargetChange
from edgeward_server.cli.trust_sheets import (
    description_sheets,
    doubts_in_words,
    keys_sheet,
    roles_sheet,
    waiting_in_words,
)
from edgeward_server.terminal.formats import format_instant

ROLES = [
    trust_pb2.TrustRole(name="root", key_ids=["aa" * 32, "bb" * 32], threshold=2, version=3),
    trust_pb2.TrustRole(name="team", key_ids=["bb" * 32], threshold=1, prefix="kitchen-", pending_signatures=1),
]


def test_a_role_says_how_many_keys_must_sign_and_what_it_waits_for() -> None:
    """A threshold, a prefix, signatures that are missing."""
    root, team = roles_sheet(ROLES, format_instant).rows
    assert root[:4] == ("root", "", "2 of 2", "3")
    assert (team[1], team[-1]) == ("kitchen-", "1 more")


def test_a_key_names_its_roles_and_whether_it_is_held_here() -> None:
    """An offline key is told from one that the coordinator has."""
    keys = [trust_pb2.TrustKey(id="aa" * 32, held=True), trust_pb2.TrustKey(id="bb" * 32)]
    rows = [tuple(row) for row in keys_sheet(keys, ROLES).rows]
    assert rows == [("aaaaaaaaaaaa", "root", "yes"), ("bbbbbbbbbbbb", "root, team", "no")]


def test_what_waits_is_said_with_the_way_out() -> None:
    """The three commands, in order."""
    words = waiting_in_words(["targets", "root"])
    assert "targets, root" in words
    assert words.index("trust export") < words.index("trust sign") < words.index("trust import")


def described(**changes: Any) -> RoleDescription:
    """Targets with nothing in them."""
    empty: dict[str, Any] = {"targets": (), "keys": (), "delegations": (), "other": ()}
    head: dict[str, Any] = {"role": "targets", "version": 4, "expires": "2027-01-01T00:00:00+00:00", "missing": 1}
    return RoleDescription(**{**head, **empty, "former_version": 3, "is_former_verified": True, **changes})


def test_what_is_asked_to_be_signed_is_shown_with_what_changes() -> None:
    """Files with their digests, delegations with their keys, keys with their fingerprints."""
    target = TargetChange(
        mark="changed", path="models/a/2/y", sha256="ab" * 32, total_bytes=9, golden_sha256=None, differs=("sha256",)
    )
    delegation = DelegationChange(mark="new", name="team", paths=("models/a*/*/*",), threshold=1, is_terminating=True)
    key = KeyChange(mark="new", role="team", threshold=1, key_id="cd" * 32, fingerprint="ef" * 32)
    sheets = description_sheets(described(targets=(target,), delegations=(delegation,), keys=(key,), other=("x",)))
    assert [[tuple(row) for row in sheet.rows] for sheet in sheets] == [
        [("targets", "4", "3", "2027-01-01T00:00:00+00:00", "1")],
        [("changed", "a/2/y", "ab" * 8, "", "9", "sha256")],
        [("new", "team", "models/a*/*/*", "1", "cd" * 6, "no")],
        [("added", "team", "1", "cd" * 6, "ef" * 32)],
        [("changed", "x")],
    ]


def test_what_is_only_the_coordinators_word_is_said_so() -> None:
    """Nothing to compare with, or something that none of the keys has signed."""
    assert "everything is shown as new" in doubts_in_words(described(former_version=None, is_former_verified=False))
    assert "the coordinator's word" in doubts_in_words(described(is_former_verified=False))
    assert not doubts_in_words(described())
