"""The audit log by command line."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.cli.conftest import Coordinator, Operator

if TYPE_CHECKING:
    from pathlib import Path


def test_every_change_is_an_entry(admin: Operator) -> None:
    """Who did what to whom, after the number that was known before."""
    before = admin.document("audit", "show")[-1]["number"]
    made = admin.document("tokens", "create", "audited", "--role", "viewer")
    entries = admin.document("audit", "show", "--after", str(before))
    assert any(
        made["id"] in (entry["subject"], entry["detail_json"]) or "token" in entry["action"] for entry in entries
    )


def test_the_head_of_an_intact_chain_is_shown(admin: Operator) -> None:
    """To be noted elsewhere."""
    result = admin("audit", "verify")
    assert result.code == 0
    assert admin.document("audit", "show")[-1]["hash"] in result.out


def test_a_changed_entry_is_found(tmp_path: Path) -> None:
    """Exit code 1, and which entry."""
    coordinator = Coordinator(tmp_path)
    coordinator.start()
    operator = Operator(tmp_path / "config")
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    operator("login", coordinator.address, "--token", coordinator.first_token, "--ca-fingerprint", fingerprint)
    for name in ("one", "two", "three"):
        operator.document("tokens", "create", name, "--role", "viewer")
    try:
        database = coordinator.data_dir / "data" / "edgeward.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            forged = connection.execute("UPDATE audit_entry SET actor = 'nobody' WHERE number = 2").rowcount
        assert forged == 1
        result = operator("audit", "verify")
        assert result.code == 1
        assert "broken at entry 2" in result.err
    finally:
        assert coordinator.stop(signal.SIGTERM) == 0
