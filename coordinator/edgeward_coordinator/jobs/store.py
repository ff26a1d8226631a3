"""The rows of jobs, and of the runs that they work on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, case, insert, select, update

from edgeward.protocol.digests import Digest
from edgeward_coordinator.jobs.job import CompressionSpec, Job, JobState
from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """What a run was made of."""

    bundle_digest: Digest
    seed: int


def insert_job(connection: Connection, job: Job) -> None:
    """Add a job."""
    values = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "model": job.model,
        "version": job.version,
        "spec": asdict(job.spec),
        "activity": job.activity,
        "error": job.error,
        "created_at": job.created_at,
        "created_by": job.created_by,
        "ended_at": job.ended_at,
    }
    connection.execute(insert(schema.job).values(values))


def update_job(
    connection: Connection,
    job_id: str,
    *,
    state: JobState | None = None,
    spec: CompressionSpec | None = None,
    activity: str | None = None,
    error: str | None = None,
    ended_at: datetime | None = None,
) -> None:
    """Change what is given; None leaves a column as it is."""
    given: dict[str, Any] = {
        "state": state.value if state else None,
        "spec": asdict(spec) if spec else None,
        "activity": activity,
        "error": error,
        "ended_at": ended_at,
    }
    values = {name: value for name, value in given.items() if value is not None}
    connection.execute(update(schema.job).where(schema.job.c.id == job_id).values(values))


def load_job(connection: Connection, job_id: str) -> Job | None:
    """The job of that id, None where there is none."""
    row = connection.execute(select(schema.job).where(schema.job.c.id == job_id)).mappings().one_or_none()
    return _job_from_row(row) if row else None


def load_jobs(connection: Connection, *, limit: int) -> list[Job]:
    """The newest jobs, newest first."""
    table = schema.job
    query = select(table).order_by(table.c.created_at.desc(), table.c.id).limit(limit)
    return [_job_from_row(row) for row in connection.execute(query).mappings()]


def load_next(connection: Connection) -> Job | None:
    """The job to work on: the one that was interrupted, else the oldest that waits."""
    table = schema.job
    interrupted_first = case((table.c.state == JobState.RUNNING.value, 0), else_=1)
    query = (
        select(table)
        .where(table.c.state.in_([JobState.RUNNING.value, JobState.PENDING.value]))
        .order_by(interrupted_first, table.c.created_at, table.c.id)
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return _job_from_row(row) if row else None


def load_run_source(connection: Connection, run_id: str) -> RunSource | None:
    """What the run was made of, None for an unknown run."""
    table = schema.run
    row = connection.execute(select(table.c.bundle_digest, table.c.seed).where(table.c.id == run_id)).one_or_none()
    return RunSource(bundle_digest=Digest(row.bundle_digest), seed=row.seed) if row else None


def _job_from_row(row: RowMapping) -> Job:
    spec: dict[str, Any] = row["spec"]
    return Job(
        id=row["id"],
        kind=row["kind"],
        state=JobState(row["state"]),
        model=row["model"],
        version=row["version"],
        spec=CompressionSpec(
            flavors=tuple(spec["flavors"]),
            seed=spec["seed"],
            made=tuple(spec["made"]),
            skipped=spec["skipped"],
        ),
        activity=row["activity"],
        error=row["error"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        ended_at=row["ended_at"],
    )
