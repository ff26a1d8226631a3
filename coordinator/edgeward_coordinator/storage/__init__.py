"""Where state lives: the database (SQLite or PostgreSQL) and the blobs (a folder or S3)."""

from edgeward_coordinator.storage.audit import AuditEntry, ChainReport, read_audit_entries, verify_chain
from edgeward_coordinator.storage.audit_log import AuditLog
from edgeward_coordinator.storage.blobs import BlobStore
from edgeward_coordinator.storage.database import Change, Database, wait_for_database
from edgeward_coordinator.storage.migrate import migrate
from edgeward_coordinator.storage.statements import insert_into, newest_generation, next_generation

__all__ = [
    "AuditEntry",
    "AuditLog",
    "BlobStore",
    "ChainReport",
    "Change",
    "Database",
    "insert_into",
    "migrate",
    "newest_generation",
    "next_generation",
    "read_audit_entries",
    "verify_chain",
    "wait_for_database",
]
