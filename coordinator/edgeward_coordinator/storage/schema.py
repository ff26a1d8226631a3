"""The tables, in one place: what the migrations must add up to (a test compares).

Instants are aware UTC datetimes. JSON columns hold small documents that are
only read whole. Digests are 64 hexadecimal characters.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse naive instants before they are stored."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"instant without a time zone: {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id(name: str = "id") -> Column[str]:
    return Column(name, String(64), primary_key=True)


# Settings and counters -------------------------------------------------------

setting = Table("setting", metadata, _id("name"), Column("value", Text, nullable=False))
counter = Table("counter", metadata, _id("name"), Column("value", BigInteger, nullable=False))

# Access and audit ------------------------------------------------------------

operator_credential = Table(
    "operator_credential",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),  # token | certificate
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    # token: SHA-256 of the secret; certificate: serial number, hexadecimal
    Column("verifier", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", String(160), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("detail", Text, nullable=False),  # canonical JSON, exactly as it was hashed
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

# One row; updating it is the lock that makes the chain a chain.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

# Fleet -----------------------------------------------------------------------

enrollment_token = Table(
    "enrollment_token",
    metadata,
    _id(),
    Column("verifier", String(64), nullable=False, unique=True),
    Column("group_name", String(128), nullable=False),
    Column("uses_total", Integer, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
)

device = Table(
    "device",
    metadata,
    _id(),
    Column("name", String(128), nullable=False, index=True),
    Column("group_name", String(128), nullable=False, index=True),
    # What the device says of itself, and over it what operators set ("" hides a label of the device's own).
    Column("own_labels", JSON, nullable=False),
    Column("set_labels", JSON, nullable=False),
    Column("certificate_serial", String(64), nullable=False),
    Column("certificate_not_after", Instant, nullable=False),
    # A renewed certificate until its first use; so long the one above stays valid.
    Column("next_certificate_serial", String(64)),
    Column("next_certificate_not_after", Instant),
    # The key it enrolled with, by which a device whose answer was lost is known when it asks again.
    Column("enrollment_key", String(64), nullable=False),
    Column("enrolled_at", Instant, nullable=False),
    Column("revoked_at", Instant, index=True),
    Column("last_seen_at", Instant),
    Column("inventory", JSON),
    Column("reported", JSON),
    Column("heartbeat", JSON),
    # No desired state of this device has a generation below this one.
    Column("generation_floor", BigInteger, nullable=False),
)

# Registry --------------------------------------------------------------------

artifact = Table(
    "artifact",
    metadata,
    _id("digest"),
    Column("total_bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)

model = Table(
    "model",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
)

model_version = Table(
    "model_version",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("lineage", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
)

flavor = Table(
    "flavor",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("format", String(16), nullable=False),
    Column("precision", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("golden_digest", String(64)),
    Column("golden_bytes", BigInteger),
    Column("signature", JSON, nullable=False),
    Column("evaluation", JSON),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("approved_at", Instant),
    Column("approved_by", String(128)),
    # When it entered the signed metadata in force; null: no device may install it.
    Column("signed_at", Instant),
    # The least versions of the runtimes that can run it, found when it was approved.
    Column("runtimes", JSON),
)

# Bytes that turn one artifact into another.
patch = Table(
    "patch",
    metadata,
    Column("base_digest", String(64), primary_key=True),
    Column("target_digest", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# Trust -----------------------------------------------------------------------

# Every version of every role's signed metadata that devices may still ask for.
trust_metadata = Table(
    "trust_metadata",
    metadata,
    Column("role", String(80), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# The next version of a role, while it waits for signatures of keys that are not here.
trust_pending = Table(
    "trust_pending",
    metadata,
    Column("role", String(80), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# Deployment ------------------------------------------------------------------

# `version` is null after a removal: the row stays, for its generation.
deployment = Table(
    "deployment",
    metadata,
    Column("group_name", String(128), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("version", Integer),
    # Of the last change of what devices are told, be it only of which flavors are signed.
    Column("generation", BigInteger, nullable=False),
    # Of the last decision to run the version: what devices refused they try again only under a newer one.
    Column("release", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
)

# Rollouts ----------------------------------------------------------------------

rollout = Table(
    "rollout",
    metadata,
    _id(),
    Column("model", String(128), nullable=False),
    Column("group_name", String(128), nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("plan_toml", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("phase", Integer, nullable=False),
    # Per phase: when it began and ended, the gates as they were judged last.
    Column("phases", JSON, nullable=False),
    # Grows by one with each write: who writes names the one that they read, and who watches sees that there is news.
    Column("revision", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
)

rollout_device = Table(
    "rollout_device",
    metadata,
    Column("rollout_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("phase", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text, nullable=False),
    # What it had answered with the new version before it was admitted (a version may be rolled out again).
    Column("baseline", JSON, nullable=False),
    Column("admitted_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

# What one device runs of a model in place of its group's deployment. `version` is null for none at all.
assignment = Table(
    "assignment",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("group_name", String(128), nullable=False, index=True),
    Column("rollout_id", String(64), nullable=False, index=True),
    Column("version", Integer),
    Column("candidate_version", Integer),
    Column("mode", String(16), nullable=False),  # serve | shadow | ab
    Column("share", Float, nullable=False),
    Column("probation", JSON, nullable=False),
    # Both as in `deployment`.
    Column("generation", BigInteger, nullable=False),
    Column("release", BigInteger, nullable=False),
)

# Learning and jobs -----------------------------------------------------------

run = Table(
    "run",
    metadata,
    _id(),
    Column("app", String(128), nullable=False),
    Column("group_name", String(128), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("rounds", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("bundle_digest", String(64), nullable=False),
    Column("run_config", JSON, nullable=False),
    Column("min_devices", Integer, nullable=False),
    Column("round_timeout_s", Float, nullable=False),
    Column("model", String(128), nullable=False),
    Column("version", Integer),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("error", Text, nullable=False),
)

# One exchange with the cohort (Flower's send-and-receive), in order.
run_round = Table(
    "run_round",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("call", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("asked", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("took_s", Float, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
)

job = Table(
    "job",
    metadata,
    _id(),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("model", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("activity", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("ended_at", Instant),
)

# Monitoring ------------------------------------------------------------------

telemetry_batch = Table(
    "telemetry_batch",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("received_at", Instant, nullable=False, index=True),
    Column("records", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# Sums over all batches, kept in the transaction that stores the batch.
prediction_total = Table(
    "prediction_total",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("flavor", String(64), primary_key=True),
    Column("predictions", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("latency", JSON, nullable=False),
    Column("labelled", BigInteger, nullable=False),
    Column("correct", BigInteger, nullable=False),
)

# Sums of what candidates answered beside the version that served.
comparison_total = Table(
    "comparison_total",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("candidate_version", Integer, primary_key=True, autoincrement=False),
    Column("candidate_flavor", String(64), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("agreed", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("latency", JSON, nullable=False),
)

device_counter = Table(
    "device_counter",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)

device_event = Table(
    "device_event",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False, index=True),
    Column("kind", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
)
