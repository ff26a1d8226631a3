"""The jobs of a coordinator: asked for, done one at a time, and watched.

Rows are the truth. The loop asks the database for the next one, so a job that
was interrupted comes first, and one that was asked for elsewhere is found too.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from edgeward.protocol.errors import WireError
from edgeward_coordinator.errors import AlreadyExists, CoordinatorError, FailedPrecondition, NotFound, Unavailable
from edgeward_coordinator.jobs import store
from edgeward_coordinator.jobs.changes import Changes
from edgeward_coordinator.jobs.compression import Compression, Ingredients
from edgeward_coordinator.jobs.job import CompressionSpec, Job, JobEvent, JobState, next_state
from edgeward_coordinator.registry import ARRAYS_FLAVOR
from edgeward_coordinator.storage import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from edgeward_coordinator.registry import ModelVersion, Registry
    from edgeward_coordinator.storage import Database

_LOG = logging.getLogger(__name__)

# -P: what lies in the working folder is no module of ours.
COMPRESS: Final = (sys.executable, "-P", "-m", "edgeward_compression.models.compress")
_POLL_S: Final = 2.0
_MAX_LISTED: Final = 200
_MAX_ERROR: Final = 2000
_SEED_BITS: Final = 32


class Jobs:
    """Central work; thread-safe but for `run` and `wait_for_change`, which belong to one event loop.

    Args:
        database: Where rows live.
        registry: Where ingredients come from and flavors go.
        folder: Holds a folder a job, with its log.
        clock: The instant now.
        command: The process of a compression, see `compression`.
        time_limit: After which a job is given up, so that one that hangs does not block the rest.
    """

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        folder: Path,
        clock: Callable[[], datetime],
        command: Sequence[str] = COMPRESS,
        time_limit: timedelta = timedelta(hours=1),
    ) -> None:
        self._database = database
        self._registry = registry
        self._folder = folder
        self._clock = clock
        self._command = tuple(command)
        self._time_limit = time_limit
        self._changes = Changes()
        self._wake: Callable[[], object] = lambda: None

    def start_compression(
        self, *, model: str, version: int | None = None, flavors: Sequence[str] = (), actor: str
    ) -> Job:
        """Ask for flavors of what a federated run has learned.

        Args:
            model: The model.
            version: Its version; None or 0 for the newest.
            flavors: Their names; none for all that this coordinator can make.
            actor: Who asks.

        Returns:
            The job, which is pending.

        Raises:
            NotFound: No such model or version.
            FailedPrecondition: It did not come out of a run.
            AlreadyExists: It has all these flavors.
        """
        source = self._registry.get_version(model, version or None)
        seed = self._run_source(source).seed
        wanted = tuple(dict.fromkeys(flavors))
        if wanted and not _missing(source, wanted):
            raise AlreadyExists(f"{model}:{source.number} has {', '.join(wanted)} already")
        job = Job(
            id=secrets.token_hex(8),
            kind="compression",
            state=JobState.PENDING,
            model=model,
            version=source.number,
            spec=CompressionSpec(flavors=wanted, seed=seed % (1 << _SEED_BITS), skipped={}),
            activity="waits for its turn",
            error="",
            created_at=self._clock(),
            created_by=actor,
            ended_at=None,
        )
        change = Change(
            actor=actor,
            action="job.start",
            subject=f"{model}:{source.number}",
            detail={"job": job.id, "kind": job.kind, "flavors": list(wanted)},
        )
        with self._database.change(change) as connection:
            store.insert_job(connection, job)
        with suppress(RuntimeError):  # the loop is gone: the next one finds the row
            self._wake()
        return job

    def get(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            job = store.load_job(connection, job_id)
        if job is None:
            raise NotFound(f"no job {job_id[:80]!r}")
        return self._with_flavors(job)

    def list_jobs(self) -> list[Job]:
        """The newest jobs, newest first."""
        with self._database.read() as connection:
            jobs = store.load_jobs(connection, limit=_MAX_LISTED)
        return [self._with_flavors(job) for job in jobs]

    def log_path(self, job_id: str) -> Path:
        """Where a job's process left its words; the file is there once it has started."""
        return self._folder / job_id / "log.txt"

    def change_count(self, job_id: str) -> int:
        """How often a job has changed, for `wait_for_change`."""
        return self._changes.count(job_id)

    async def wait_for_change(self, job_id: str, seen: int, *, within_s: float = _POLL_S) -> int:
        """Wait until the job's count is not `seen`, or `within_s` are over; returns the count.

        A job that another coordinator works on does not count here: look at it after each wait.
        """
        return await self._changes.wait(job_id, seen, within_s=within_s)

    async def run(self) -> None:
        """Work until cancelled; the process at work is then killed, and its job goes on at the next start.

        Raises:
            Unavailable: The database or the object store is away; run again, and the job goes on.
        """
        awake = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, awake.set)
        while True:
            awake.clear()
            job = await asyncio.to_thread(self._next)
            if job is not None:
                await self._work_on(job)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await awake.wait()

    def _next(self) -> Job | None:
        with self._database.read() as connection:
            return store.load_next(connection)

    async def _work_on(self, job: Job) -> None:
        started = next_state(job.state, JobEvent.STARTED)
        await self._update(job.id, state=started, activity="gathers what it needs")
        problem, summary = await self._attempt(job)
        event = JobEvent.BROKE if problem else JobEvent.DONE
        await self._update(
            job.id,
            state=next_state(started, event),
            activity=summary,
            error=problem[:_MAX_ERROR],
            ended_at=self._clock(),
        )

    async def _attempt(self, job: Job) -> tuple[str, str]:
        """Do the work; what went wrong ("" where nothing did) and what has come of it."""
        compression: Compression | None = None
        problem = ""
        try:
            async with asyncio.timeout(self._time_limit.total_seconds()):
                compression = await asyncio.to_thread(self._compression, job)
                problem = await compression.run()
        except Unavailable:
            raise
        except TimeoutError:
            problem = f"it took longer than {self._time_limit}"
        except (CoordinatorError, WireError, OSError) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  # a job that breaks us must not be tried for ever
            _LOG.exception("job %s", job.id)
            problem = f"something went wrong in the coordinator: {error!r}"
        return problem, compression.summary if compression else ""

    def _compression(self, job: Job) -> Compression:
        version = self._registry.get_version(job.model, job.version)
        arrays = version.flavor(ARRAYS_FLAVOR)
        source = self._run_source(version)
        if arrays is None:
            raise _not_trained(version)
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        return Compression(
            job=job,
            ingredients=Ingredients(
                bundle=source.bundle_digest,
                arrays=arrays.flavor.digest,
                flavors=_missing(version, job.spec.flavors) if job.spec.flavors else None,
            ),
            registry=self._registry,
            folder=folder,
            command=self._command,
            note=lambda spec, activity: self._update(job.id, spec=spec, activity=activity),
        )

    def _run_source(self, version: ModelVersion) -> store.RunSource:
        run_id = version.lineage.run_id
        if not run_id or version.flavor(ARRAYS_FLAVOR) is None:
            raise _not_trained(version)
        with self._database.read() as connection:
            source = store.load_run_source(connection, run_id)
        if source is None:
            raise FailedPrecondition(f"the run {run_id} that {version.model}:{version.number} came out of is not known")
        return source

    def _with_flavors(self, job: Job) -> Job:
        if not job.spec.made:
            return job
        flavors = self._registry.get_version(job.model, job.version).flavors
        return replace(job, flavors=tuple(each for each in flavors if each.flavor.name in job.spec.made))

    async def _update(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        spec: CompressionSpec | None = None,
        activity: str | None = None,
        error: str | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        def write() -> None:
            with self._database.write() as connection:
                store.update_job(
                    connection, job_id, state=state, spec=spec, activity=activity, error=error, ended_at=ended_at
                )

        await asyncio.to_thread(write)
        self._changes.mark(job_id)


def _missing(version: ModelVersion, wanted: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in wanted if version.flavor(name) is None)


def _not_trained(version: ModelVersion) -> FailedPrecondition:
    return FailedPrecondition(
        f"{version.model}:{version.number} did not come out of a federated run: there is nothing to compress it from",
        hint="name a version that a run made; edgeward models show tells where each comes from",
    )
