"""Operators by command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Coordinator, Operator


def test_a_secret_is_alone_on_stdout(admin: Operator) -> None:
    """So that a script can keep it; the warning goes to stderr."""
    result = admin("tokens", "create", "robot", "--role", "operator")
    assert result.out.startswith("ewt_")
    assert len(result.out.split()) == 1
    assert "not shown again" in result.err


def test_a_list_of_tokens_holds_no_secret(admin: Operator) -> None:
    """Only who may come in, and until when."""
    secret = admin.document("tokens", "create", "mortal", "--role", "viewer", "--expires", "30d")["secret"]
    result = admin("tokens", "list", "--json")
    (token,) = [token for token in result.document if token["name"] == "mortal"]
    assert token["expires_at"] is not None
    assert secret not in result.out


def test_a_revoked_token_is_out_at_once(admin: Operator, stranger: Operator, coordinator: Coordinator) -> None:
    """With the reason, and the way back in."""
    made = admin.document("tokens", "create", "leaver", "--role", "viewer")
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    login = ("login", coordinator.address, "--token", made["secret"], "--ca-fingerprint", fingerprint)
    assert stranger(*login, "--context", "leaver").code == 0
    assert admin("--context", coordinator.address, "tokens", "revoke", made["id"]).code == 0
    result = admin("--context", "leaver", "whoami")
    assert result.code == 1
    assert "revoked" in result.err
    assert "hint" in result.err


def test_a_key_is_never_overwritten(admin: Operator, tmp_path: Path) -> None:
    """Nothing is asked of the coordinator either."""
    (tmp_path / "key.pem").write_text("precious")
    result = admin("tokens", "certificate", "unmade", "--role", "viewer", "--out", tmp_path)
    assert result.code == 1
    assert (tmp_path / "key.pem").read_text() == "precious"
    assert all(token["name"] != "unmade" for token in admin.document("tokens", "list"))
