"""One compression: what it needs out of the registry, a process, its flavors into the registry.

Flavors are registered as they come, and one that exists is left alone. So a
compression can be killed at any point and started again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from edgeward.durable import write_atomic
from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import decode_golden, problem_with_golden
from edgeward.protocol.model import Flavor
from edgeward_coordinator.errors import AlreadyExists
from edgeward_coordinator.jobs.events import (
    ActivityChanged,
    Event,
    FlavorMade,
    FlavorSkipped,
    ProcessFailed,
    parse_event,
)
from edgeward_coordinator.jobs.process import describe_end, read_lines, start_process
from edgeward_coordinator.registry import ARRAYS_FLAVOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from edgeward.protocol.digests import Digest
    from edgeward_coordinator.jobs.job import CompressionSpec, Job
    from edgeward_coordinator.registry import Registry

_WORK: Final = "work-"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What a version is compressed from, and what of it is wanted; `flavors` is None where all that can be made are."""

    bundle: Digest
    arrays: Digest
    flavors: tuple[str, ...] | None


class Compression:
    """The work on one job.

    Args:
        job: The job.
        ingredients: What its process gets.
        registry: Where flavors go.
        folder: The job's own; holds its log when the work is over, and nothing else.
        command: Followed by `--spec FILE --out FOLDER`; speaks in `events`.
        note: Persists how far the job is, and what it does now.
    """

    def __init__(
        self,
        *,
        job: Job,
        ingredients: Ingredients,
        registry: Registry,
        folder: Path,
        command: Sequence[str],
        note: Callable[[CompressionSpec, str], Awaitable[None]],
    ) -> None:
        self._job = job
        self._ingredients = ingredients
        self._registry = registry
        self._folder = folder
        self._work = folder
        self._command = command
        self._note = note
        self._spec = job.spec
        self._error = ""

    async def run(self) -> str:
        """Do it.

        Returns:
            What went wrong, in words; empty where nothing did.

        Raises:
            WireError: The process said something of another form than agreed.
            CoordinatorError: The registry refused, or the database or the object store is away.
        """
        if self._ingredients.flavors == ():
            return ""
        try:
            await asyncio.to_thread(self._prepare)
            with (self._folder / "log.txt").open("ab", buffering=0) as log:
                return await self._follow_process(log)
        finally:
            self._remove_work()

    @property
    def summary(self) -> str:
        """What has come of it, in words."""
        made = f"made {', '.join(self._spec.made)}" if self._spec.made else "made nothing new"
        return made + self._reasons

    @property
    def _reasons(self) -> str:
        return "".join(f"; skipped {name}: {reason}" for name, reason in self._spec.skipped.items())

    @property
    def _out(self) -> Path:
        return self._work / "out"

    def _prepare(self) -> None:
        self._remove_work()
        # A name of its own: the process of a coordinator that was killed may still write into the former one.
        self._work = Path(tempfile.mkdtemp(prefix=_WORK, dir=self._folder))
        self._out.mkdir()
        bundle, arrays = self._work / "bundle.zip", self._work / "arrays.npz"
        self._registry.copy_artifact(self._ingredients.bundle, bundle)
        self._registry.copy_artifact(self._ingredients.arrays, arrays)
        spec = {
            "bundle": str(bundle),
            "arrays": str(arrays),
            "flavors": list(self._ingredients.flavors or ()),
            "seed": self._spec.seed,
        }
        write_atomic(self._work / "spec.json", json.dumps(spec).encode())

    def _remove_work(self) -> None:
        for folder in self._folder.glob(f"{_WORK}*"):
            shutil.rmtree(folder, ignore_errors=True)

    async def _follow_process(self, log: IO[bytes]) -> str:
        command = [*self._command, "--spec", str(self._work / "spec.json"), "--out", str(self._out)]
        async with start_process(command, folder=self._work, log=log) as process:
            async for line in read_lines(process, log=log):
                event = parse_event(line)
                if event is not None:
                    await self._take(event)
            returncode = await process.wait()
        problem = self._error or (describe_end(returncode) if returncode else "")
        if self._spec.made:
            return problem
        return f"{problem or 'no flavor came out'}{self._reasons}"

    async def _take(self, event: Event) -> None:
        match event:
            case ActivityChanged(text=text):
                await self._note(self._spec, text)
            case FlavorSkipped(name=name, reason=reason):
                self._spec = replace(self._spec, skipped={**self._spec.skipped, name: reason})
                await self._note(self._spec, f"skipped {name}: {reason}")
            case FlavorMade():
                others = (name for name in self._spec.made if name != event.name)
                skipped = {name: why for name, why in self._spec.skipped.items() if name != event.name}
                self._spec = replace(self._spec, made=(*others, event.name), skipped=skipped)
                await self._note(self._spec, f"registering {event.name}")
                await asyncio.to_thread(self._register, event)
                await self._note(self._spec, f"made {event.name}")
            case ProcessFailed(error=error):
                self._error = error

    def _register(self, made: FlavorMade) -> None:
        path, golden_path = self._inside(made.file), self._inside(made.golden)
        problem = problem_with_golden(decode_golden(golden_path.read_bytes()), made.signature)
        if problem or made.name == ARRAYS_FLAVOR or made.format == "arrays":
            raise WireError(f"flavor {made.name[:80]!r} can't be used: {problem or 'no device runs arrays'}")
        digest, total_bytes = self._registry.store_artifact(path)
        golden_digest, golden_bytes = self._registry.store_artifact(golden_path)
        flavor = Flavor(
            name=made.name,
            format=made.format,
            precision=made.precision,
            digest=digest,
            total_bytes=total_bytes,
            golden_digest=golden_digest,
            golden_bytes=golden_bytes,
            signature=made.signature,
        )
        job = self._job
        try:
            self._registry.add_flavor(
                job.model, job.version, flavor, made.evaluation, actor=job.created_by, job_id=job.id
            )
        except AlreadyExists:
            _LOG.info("job %s: %s:%d has %s already", self._job.id, self._job.model, self._job.version, made.name)

    def _inside(self, name: str) -> Path:
        # No link and no folder: the process could name any file of ours.
        path = self._out / name
        if path.parent != self._out or path.is_symlink() or not path.is_file():
            raise WireError(f"the job's process names {name[:80]!r}, which is no file in its output folder")
        return path
