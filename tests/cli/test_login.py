"""Coming in."""

from __future__ import annotations

import socket
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Coordinator, Operator


def test_the_first_admin_comes_in_with_the_printed_token(admin: Operator) -> None:
    """And is known as an admin."""
    identity = admin.document("whoami")
    assert identity["role"] == "admin"


def test_a_token_may_come_from_stdin(stranger: Operator, coordinator: Coordinator) -> None:
    """So that it stands in no history of a shell."""
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    arguments = ("login", coordinator.address, "--token", "-", "--ca-fingerprint", fingerprint)
    assert stranger(*arguments, stdin=coordinator.first_token + "\n").code == 0


def test_another_fingerprint_is_refused_before_the_token_leaves(stranger: Operator, coordinator: Coordinator) -> None:
    """Somebody in between is not told the token; nothing is kept."""
    result = stranger("login", coordinator.address, "--token", "ewt_x", "--ca-fingerprint", "00" * 32)
    assert result.code == 3
    assert f"fingerprint {coordinator.endpoints['ca_fingerprint']}" in result.err
    assert stranger.document("contexts", "list") == []


def test_without_a_person_to_ask_an_unknown_ca_is_not_trusted(stranger: Operator, coordinator: Coordinator) -> None:
    """A script must know the fingerprint."""
    result = stranger("login", coordinator.address, "--token", "ewt_x")
    assert result.code == 2
    assert "--ca-fingerprint" in result.err


def test_a_wrong_token_is_one_sentence_and_a_hint(stranger: Operator, coordinator: Coordinator) -> None:
    """Exit code 1: the coordinator said no."""
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    result = stranger("login", coordinator.address, "--token", "ewt_wrong", "--ca-fingerprint", fingerprint)
    assert result.code == 1
    assert [line.partition(":")[0] for line in result.err.splitlines()] == ["error", "hint"]


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_an_address_without_a_coordinator_is_exit_code_3(stranger: Operator, closed_port: int) -> None:
    """Not to be mistaken for a refusal."""
    result = stranger("login", f"127.0.0.1:{closed_port}", "--token", "x", "--ca-fingerprint", "00" * 32)
    assert result.code == 3
    assert "no coordinator answers" in result.err


def test_something_that_speaks_no_tls_is_said_so(stranger: Operator) -> None:
    """A wrong port is recognised."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        thread = Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        result = stranger("login", f"127.0.0.1:{port}", "--token", "x", "--ca-fingerprint", "00" * 32)
        thread.join()
    assert result.code == 3
    assert "not with TLS" in result.err


def test_a_name_that_the_certificate_lacks_is_said_so(stranger: Operator, coordinator: Coordinator) -> None:
    """The hint is what the server needs; the address is another form of 127.0.0.1."""
    port, fingerprint = coordinator.endpoints["port"], coordinator.endpoints["ca_fingerprint"]
    result = stranger("login", f"[::ffff:127.0.0.1]:{port}", "--token", "x", "--ca-fingerprint", fingerprint)
    assert result.code == 3
    assert "the server's certificate does not name [::ffff:127.0.0.1]" in result.err
    assert "--advertise" in result.err


def test_a_certificate_is_as_good_as_a_token(admin: Operator, coordinator: Coordinator, tmp_path: Path) -> None:
    """The key is made here and stays here; the role is the one that was asked for."""
    made = admin("tokens", "certificate", "ci", "--role", "viewer", "--out", tmp_path / "ci")
    assert made.code == 0, made.err
    assert (tmp_path / "ci" / "key.pem").stat().st_mode & 0o777 == 0o600
    files = ("--certificate", tmp_path / "ci" / "certificate.pem", "--key", tmp_path / "ci" / "key.pem")
    ca = ("--ca-file", tmp_path / "ci" / "ca.pem")
    login = admin("login", coordinator.device_address, *files, *ca, "--context", "ci")
    assert login.code == 0, login.err
    identity = admin.document("whoami")
    assert (identity["name"], identity["role"]) == ("ci", "viewer")


def test_contexts_are_chosen_by_name(admin: Operator, coordinator: Coordinator) -> None:
    """For one command, or from now on."""
    token = admin.document("tokens", "create", "reader", "--role", "viewer")["secret"]
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    login = ("login", coordinator.address, "--token", token, "--ca-fingerprint", fingerprint, "--context", "reader")
    assert admin(*login).code == 0
    assert admin.document("--context", coordinator.address, "whoami")["role"] == "admin"
    assert admin.document("whoami")["role"] == "viewer"
    assert admin("contexts", "use", coordinator.address).code == 0
    assert admin.document("whoami")["role"] == "admin"
    assert admin("contexts", "remove", "reader").code == 0
    assert [context["name"] for context in admin.document("contexts", "list")] == [coordinator.address]


def test_a_file_that_is_no_certificate_is_said_so(admin: Operator, coordinator: Coordinator, tmp_path: Path) -> None:
    """Before anything is sent; and so is the key of another one."""
    for name in ("ci", "other"):
        assert admin("tokens", "certificate", name, "--role", "viewer", "--out", tmp_path / name).code == 0
    (tmp_path / "story.txt").write_text("once upon a time")
    files = {
        "no certificate": (tmp_path / "story.txt", tmp_path / "ci" / "key.pem"),
        "no private key": (tmp_path / "ci" / "certificate.pem", tmp_path / "story.txt"),
        "not the certificate's": (tmp_path / "ci" / "certificate.pem", tmp_path / "other" / "key.pem"),
    }
    for problem, (certificate, key) in files.items():
        result = admin("login", coordinator.device_address, "--certificate", certificate, "--key", key)
        assert result.code == 2
        assert problem in result.err


def test_tokens_that_others_may_read_are_warned_of(admin: Operator) -> None:
    """With what mends it; the command works."""
    (admin.config_folder / "contexts.toml").chmod(0o644)
    result = admin("whoami")
    assert result.code == 0
    assert "chmod 600" in result.err
