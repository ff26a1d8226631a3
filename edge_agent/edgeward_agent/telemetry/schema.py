"""The outbox's tables in SQLite.

- `record`: what waits, one row a record, its bytes ready to be joined.
- `batch`: what was sealed. `sequence` never comes twice in an epoch and the bytes
  never change, so the coordinator can tell a repetition from news. `losses` is
  what would be lost with it, `offered` whether the coordinator may have it.
- `dropped`: how many were given up, by kind, and not yet reported.
- `held`: the totals, kept by triggers, so that nothing is ever counted by reading.
"""

from __future__ import annotations

import sqlite3

VERSION = 1

# What SQLite needs for a row beside its payload, counted so that the bound is one of disk.
ROW_BYTES = 64

# The only things put into it are the two numbers above.
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    importance INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX record_by_importance ON record (importance, id);
CREATE TABLE batch (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    payload BLOB NOT NULL,
    records INTEGER NOT NULL,
    losses TEXT NOT NULL,
    offered INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (one INTEGER PRIMARY KEY CHECK (one = 1), records INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO held VALUES (1, 0, 0);
CREATE TRIGGER record_in AFTER INSERT ON record BEGIN
    UPDATE held SET records = records + 1, bytes = bytes + length(new.payload) + {ROW_BYTES};
END;
CREATE TRIGGER record_out AFTER DELETE ON record BEGIN
    UPDATE held SET records = records - 1, bytes = bytes - length(old.payload) - {ROW_BYTES};
END;
CREATE TRIGGER batch_in AFTER INSERT ON batch BEGIN
    UPDATE held SET records = records + new.records, bytes = bytes + length(new.payload) + {ROW_BYTES};
END;
CREATE TRIGGER batch_out AFTER DELETE ON batch BEGIN
    UPDATE held SET records = records - old.records, bytes = bytes - length(old.payload) - {ROW_BYTES};
END;
PRAGMA user_version = {VERSION};
"""  # noqa: S608


def statements() -> list[str]:
    """The schema one by one; `executescript` would commit the transaction that it runs in."""
    found: list[str] = []
    pending = ""
    for line in _SCHEMA.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
