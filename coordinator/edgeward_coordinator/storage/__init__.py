"""Where state lives: the database (SQLite or PostgreSQL) and the blobs (a folder or S3)."""

from edgeward_coordinator.storage.audit import AuditEntry, ChainReport, read_audit_entries, verify_chain
from edgeward_coordinator.storage.blobs import BlobStore
from edgeward_coordinator.storage.database import Change, Database, wait_for_database
from edgeward_coordinator.storage.migrate import migrate

__all__ = [
    "AuditEntry",
    "BlobStore",
    "ChainReport",
    "Change",
    "Database",
    "migrate",
    "read_audit_entries",
    "verify_chain",
    "wait_for_database",
]
