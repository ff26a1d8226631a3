"""Keys, roles and projects by command line."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from tuf.api.metadata import Metadata, Targets

from edgeward_coordinator.trust import WaitingRole, generate_key
from edgeward_coordinator.trust.document import write_document
from edgeward_coordinator.trust.keys import parse_public_key
from tests.cli.conftest import EDGEWARD, Coordinator, Operator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def role_of(admin: Operator, name: str) -> Any:
    """As `trust show` has it."""
    return next(role for role in admin.document("trust", "show")["roles"] if role["name"] == name)


def test_roles_and_keys_are_shown(admin: Operator) -> None:
    """The four roles of TUF, each with a key that the coordinator holds."""
    shown = admin("trust", "show")
    assert shown.code == 0, shown.err
    for role in ("root", "targets", "snapshot", "timestamp"):
        assert role in shown.out
    assert all(key["held"] for key in admin.document("trust", "show")["keys"])


def test_a_key_is_made_without_a_login(stranger: Operator, tmp_path: Path) -> None:
    """The private part for its owner alone, and nothing is overwritten."""
    made = stranger("trust", "keygen", tmp_path / "team.pem")
    assert made.code == 0, made.err
    assert (tmp_path / "team.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" in (tmp_path / "team.pem").read_text()
    assert "PUBLIC" in (tmp_path / "team.pub.pem").read_text()
    before = (tmp_path / "team.pem").read_bytes()
    again = stranger("trust", "keygen", tmp_path / "team.pem")
    assert again.code == 1
    assert "exists already" in again.err
    assert (tmp_path / "team.pem").read_bytes() == before


def test_a_rotated_role_has_another_key(admin: Operator) -> None:
    """One that the coordinator made; the version grows."""
    before = role_of(admin, "timestamp")
    rotated = admin("trust", "rotate", "timestamp")
    assert rotated.code == 0, rotated.err
    after = role_of(admin, "timestamp")
    assert after["version"] > before["version"]
    assert not set(after["key_ids"]) & set(before["key_ids"])


def test_a_key_is_added_and_removed_by_how_its_id_begins(admin: Operator, tmp_path: Path) -> None:
    """Targets with two keys, of which one suffices, and then with one again."""
    assert admin("trust", "keygen", tmp_path / "ada.pem").code == 0
    (own,) = role_of(admin, "targets")["key_ids"]
    assert admin("trust", "rotate", "targets", "--add", tmp_path / "ada.pub.pem").code == 0
    (ada,) = set(role_of(admin, "targets")["key_ids"]) - {own}
    removed = admin("trust", "rotate", "targets", "--remove", ada[:8])
    assert removed.code == 0, removed.err
    assert role_of(admin, "targets")["key_ids"] == [own]
    assert admin("trust", "rotate", "targets", "--remove", "ffff0000ffff").code == 1


def test_a_project_comes_and_goes(admin: Operator) -> None:
    """With a key that the coordinator makes for it."""
    added = admin("trust", "projects", "add", "garden", "--prefix", "garden-")
    assert added.code == 0, added.err
    assert role_of(admin, "garden")["prefix"] == "garden-"
    twin = admin("trust", "projects", "add", "lawn", "--prefix", "garden-")
    assert twin.code == 1
    assert "garden" in twin.err
    assert admin("trust", "projects", "remove", "garden").code == 0
    assert "garden" not in [role["name"] for role in admin.document("trust", "show")["roles"]]


def test_a_project_keeps_its_threshold(own_admin: Operator, stranger: Operator, tmp_path: Path) -> None:
    """Where none is given, an existing one is left as it is; 1 must be asked for."""
    admin = own_admin
    for name in ("ada", "eve"):
        assert stranger("trust", "keygen", tmp_path / f"{name}.pem").code == 0
    keys = [part for name in ("ada", "eve") for part in ("--key", tmp_path / f"{name}.pub.pem")]
    add = ("trust", "projects", "add", "shed", "--prefix")
    assert admin(*add, "shed-", *keys, "--threshold", "2").code == 0
    assert role_of(admin, "shed")["threshold"] == 2
    assert admin(*add, "hut-", *keys).code == 0
    assert role_of(admin, "shed")["threshold"] == 2


def test_where_nothing_waits_nothing_is_exported(admin: Operator, tmp_path: Path) -> None:
    """And no file is left."""
    result = admin("trust", "export", tmp_path / "pending.json")
    assert result.code == 1
    assert "nothing waits" in result.err
    assert not (tmp_path / "pending.json").exists()


@pytest.fixture
def own_admin(tmp_path: Path) -> Iterator[Operator]:
    """Of a coordinator that no other test needs."""
    (tmp_path / "own").mkdir()
    coordinator = Coordinator(tmp_path / "own")
    coordinator.start()
    operator = Operator(tmp_path / "own-config")
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    login = operator("login", coordinator.address, "--token", coordinator.first_token, "--ca-fingerprint", fingerprint)
    assert login.code == 0, login.err
    yield operator
    assert coordinator.stop() == 0


def test_what_waits_is_signed_where_the_key_is(own_admin: Operator, stranger: Operator, tmp_path: Path) -> None:
    """A root that needs a second signature: exported, signed without a login, imported."""
    admin = own_admin
    for name in ("ada", "eve"):
        assert stranger("trust", "keygen", tmp_path / f"{name}.pem").code == 0
    changed = admin.document("trust", "rotate", "root", "--add", tmp_path / "ada.pub.pem", "--threshold", "2")
    assert changed["waiting_for_roles"] == ["root"]
    pending = tmp_path / "pending.json"
    assert admin("trust", "export", pending).code == 0
    refused = stranger("trust", "sign", pending, "--key", tmp_path / "eve.pem", "--yes")
    assert refused.code == 1
    assert "waits for the key" in refused.err
    signed = stranger("trust", "sign", pending, "--key", tmp_path / "ada.pem", "--yes")
    assert signed.code == 0, signed.err
    assert "root" in signed.out
    assert "added" in signed.out
    imported = admin("trust", "import", pending)
    assert imported.code == 0, imported.err
    assert "In force: root" in imported.out
    assert role_of(admin, "root")["threshold"] == 2


def answer(question_in: int, word: bytes) -> str:
    """What a terminal has shown until the question, which is then answered."""
    shown = b""
    while b"Sign? [y/N]" not in shown:
        shown += os.read(question_in, 4096)
    os.write(question_in, word)
    return shown.decode()


def test_who_signs_is_shown_first_and_asked(stranger: Operator, tmp_path: Path) -> None:
    """On a terminal a person decides; elsewhere nothing is signed without --yes."""
    private, public = generate_key()
    key_id = parse_public_key(public).keyid
    file, key = tmp_path / "pending.json", tmp_path / "key.pem"
    key.write_bytes(private)
    metadata: Metadata[Targets] = Metadata(Targets(version=3, expires=datetime(2030, 1, 1, tzinfo=UTC)))
    unsigned = write_document([WaitingRole(role="targets", metadata=metadata, key_ids=(key_id,), missing=1)])
    file.write_bytes(unsigned)
    refused = stranger("trust", "sign", file, "--key", key)
    assert refused.code == 1
    assert "2030-01-01" in refused.out
    assert "--yes" in refused.err
    assert file.read_bytes() == unsigned
    for word, code in ((b"\n", 1), (b"y\n", 0)):
        ours, theirs = os.openpty()
        command: list[str | Path] = [EDGEWARD, "trust", "sign", file, "--key", key]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            assert "2030-01-01" in answer(ours, word)
            assert process.wait(30) == code
        os.close(ours)
        os.close(theirs)
        assert (file.read_bytes() == unsigned) is bool(code)


def test_what_is_signed_is_shown_whole_as_json(own_admin: Operator, stranger: Operator, tmp_path: Path) -> None:
    """The root in force is in the file; the key that comes is told from those that stay."""
    assert stranger("trust", "keygen", tmp_path / "ada.pem").code == 0
    own_admin.document("trust", "rotate", "root", "--add", tmp_path / "ada.pub.pem", "--threshold", "2")
    pending = tmp_path / "pending.json"
    assert own_admin("trust", "export", pending).code == 0
    (root,) = stranger.document("trust", "sign", pending, "--key", tmp_path / "ada.pem", "--yes")["roles"]
    assert (root["former_version"], root["version"]) == (1, 2)
    assert not root["is_former_verified"]
    (new,) = [key for key in root["keys"] if key["mark"] == "new"]
    assert new["role"] == "root"
    der = load_pem_public_key((tmp_path / "ada.pub.pem").read_bytes()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert new["fingerprint"] == hashlib.sha256(der).hexdigest()


def test_a_file_that_is_none_is_neither_signed_nor_imported(admin: Operator, tmp_path: Path) -> None:
    """In a sentence."""
    file, key = tmp_path / "story.txt", tmp_path / "key.pem"
    file.write_text("once upon a time")
    assert admin("trust", "keygen", key).code == 0
    for arguments in (("sign", file, "--key", key), ("import", file)):
        result = admin("trust", *arguments)
        assert result.code == 1
        assert "trust export" in result.err
    file.write_text('{"format": "edgeward-trust-1", "roles": []}')
    assert admin("trust", "sign", file, "--key", key, "--yes").code == 1
