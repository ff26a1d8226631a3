"""Jobs over real processes: what they make, how they fail, what survives a restart."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.golden import decode_golden
from edgeward_coordinator.errors import AlreadyExists, FailedPrecondition, NotFound
from edgeward_coordinator.jobs import Job, Jobs, JobState
from edgeward_coordinator.registry import Lineage
from edgeward_coordinator.storage import read_audit_entries
from tests.registrations import ACTOR, make_flavor, train_version, upload
from tests.tiny_models import write_onnx_scale
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from edgeward_coordinator.registry import ModelVersion, Registry
    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock

    Train = Callable[..., ModelVersion]


@pytest.fixture
def train(registry: Registry, database: Database, tmp_path: Path) -> Train:
    """Makes a version of digits whose compression follows the given script."""
    runs = iter(range(1, 100))

    def train_it(script: str) -> ModelVersion:
        return train_version(registry, database, tmp_path, run_id=f"{next(runs):016x}", bundle=script.encode())

    return train_it


@asynccontextmanager
async def working(jobs: Jobs) -> AsyncIterator[None]:
    """While the coordinator is up."""
    task = asyncio.create_task(jobs.run(), name="jobs")
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def finish(jobs: Jobs, job: Job) -> Job:
    """Work until the job has ended."""
    async with working(jobs):
        await wait_until_async(lambda: jobs.get(job.id).state.has_ended, what=f"job {job.id} ends")
    return jobs.get(job.id)


async def fail(jobs: Jobs, job: Job) -> str:
    """Why the job failed."""
    ended = await finish(jobs, job)
    assert ended.state is JobState.FAILED
    return ended.error


def start(jobs: Jobs, *flavors: str, version: int | None = None) -> Job:
    """A compression of digits."""
    return jobs.start_compression(model="digits", version=version, flavors=flavors, actor=ACTOR)


async def test_flavors_come_into_the_registry(jobs: Jobs, train: Train, registry: Registry) -> None:
    """Each with its bytes, its golden set, its signature and what was measured of it."""
    train("make('onnx-fp32'); make('onnx-int8')")
    ended = await finish(jobs, start(jobs))
    assert ended.error == ""
    assert (ended.state, ended.activity) == (JobState.FINISHED, "made onnx-fp32, onnx-int8")
    assert [each.flavor.name for each in ended.flavors] == ["onnx-fp32", "onnx-int8"]
    assert ended.ended_at is not None
    registered = registry.get_version("digits").flavor("onnx-int8")
    assert registered is not None
    assert b"".join(registry.open_artifact(registered.flavor.digest)) == b"model onnx-int8"
    assert registered.flavor.golden_digest is not None
    assert decode_golden(b"".join(registry.open_artifact(registered.flavor.golden_digest))).tolerance == 0.1
    assert registered.flavor.signature.inputs[0].shape == (None, 4)
    assert registered.evaluation is not None
    assert (registered.evaluation.examples, registered.evaluation.accuracy) == (360, 0.97)


async def test_process_gets_what_the_run_was_made_of(jobs: Jobs, train: Train, registry: Registry) -> None:
    """Bundle, arrays, the flavors that were asked for, and a seed that is the run's."""
    version = train(
        "import pathlib, hashlib\n"
        "arrays = hashlib.sha256(pathlib.Path(spec['arrays']).read_bytes()).hexdigest()\n"
        "say('activity', text='x')\n"
        "(out / 'told').write_text(f\"{arrays} {spec['flavors']} {spec['seed']}\")\n"
        "make('onnx-int8', file='told')"
    )
    await finish(jobs, start(jobs, "onnx-int8"))
    arrays = version.flavors[0].flavor.digest
    made = registry.get_version("digits").flavor("onnx-int8")
    assert made is not None
    told = b"".join(registry.open_artifact(made.flavor.digest)).decode()
    assert told == f"{arrays} ['onnx-int8'] {((1 << 40) + 7) % (1 << 32)}"


async def test_process_runs_low_and_without_our_secrets(
    jobs: Jobs, train: Train, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of a bundle neither slows the coordinator down nor reads its credentials."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    train(
        "import os\n"
        "(out / 'told').write_text(f\"{os.nice(0)} {'AWS_SECRET_ACCESS_KEY' in os.environ} {'PATH' in os.environ}\")\n"
        "make('onnx-int8', file='told')"
    )
    await finish(jobs, start(jobs))
    made = registry.get_version("digits").flavor("onnx-int8")
    assert made is not None
    told = b"".join(registry.open_artifact(made.flavor.digest)).decode()
    assert told == f"{os.nice(0) + 10} False True"


async def test_skipped_flavor_is_told_with_its_reason(jobs: Jobs, train: Train) -> None:
    """The others are made all the same."""
    train("make('onnx-fp32'); say('skipped', name='tflite-int8', reason='litert-torch is not installed')")
    ended = await finish(jobs, start(jobs))
    assert ended.state is JobState.FINISHED
    assert ended.activity == "made onnx-fp32; skipped tflite-int8: litert-torch is not installed"


async def test_log_keeps_what_the_process_said(jobs: Jobs, train: Train) -> None:
    """Stdout and stderr, and nothing else stays of the job's folder."""
    train("import sys; print('to stdout'); print('to stderr', file=sys.stderr); make('onnx-fp32')")
    job = start(jobs)
    await finish(jobs, job)
    log = jobs.log_path(job.id)
    assert {"to stdout", "to stderr"} <= set(log.read_text().splitlines())
    assert list(log.parent.iterdir()) == [log]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("say('failed', error='the app has no example'); raise SystemExit(1)", "the app has no example"),
        ("raise SystemExit(3)", "its process ended with status 3"),
        ("import os; os.kill(os.getpid(), 11)", "its process crashed (Segmentation fault)"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed (SIGKILL)"),
        ("pass", "no flavor came out"),
        ("say('skipped', name='onnx-int8', reason='no calibration')", "skipped onnx-int8: no calibration"),
        ("say('dance')", "unknown event 'dance'"),
        ("make('onnx-int8', file='../spec.json')", "no file in its output folder"),
        ("make('onnx-int8', file='/etc/passwd')", "no file in its output folder"),
        ("import os; os.symlink('/etc/passwd', out / 'l'); make('onnx-int8', golden='l')", "no file in its output"),
        ("make('onnx-int8', golden='onnx-int8')", "not a readable npz"),
        ("make('onnx-int8', signature={'inputs': [], 'outputs': []})", "can't be used: the model takes inputs []"),
        ("make('arrays-fp32')", "no device runs arrays"),
        ("make('onnx-int8', name='../../x')", "can't name a flavor"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_failure_is_told_in_words(jobs: Jobs, train: Train, registry: Registry, script: str, words: str) -> None:
    """Whatever the process does, the job ends, says why, and leaves the version as it was."""
    version = train(script)
    assert words in await fail(jobs, start(jobs))
    assert registry.get_version("digits") == version


async def test_failed_job_does_not_block_the_next(jobs: Jobs, train: Train, clock: SetClock) -> None:
    """They are done in the order in which they were asked for, one at a time."""
    train("raise SystemExit(1)")
    train("make('onnx-fp32')")
    first = start(jobs, version=1)
    clock.advance(timedelta(seconds=1))
    second = start(jobs, version=2)
    assert (await finish(jobs, second)).state is JobState.FINISHED
    assert jobs.get(first.id).state is JobState.FAILED
    assert {job.id for job in jobs.list_jobs()} == {first.id, second.id}


async def test_hanging_process_is_given_up(open_jobs: Callable[..., Jobs], train: Train, tmp_path: Path) -> None:
    """With all that it started, when its time is over."""
    train(
        "import subprocess, pathlib, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    jobs = open_jobs(time_limit=timedelta(seconds=2))
    assert await fail(jobs, start(jobs)) == "it took longer than 0:00:02"
    await wait_until_async(lambda: not is_alive(int((tmp_path / "pid").read_text())), what="the grandchild is gone")


async def test_stopped_coordinator_takes_the_process_along_and_goes_on_later(
    open_jobs: Callable[..., Jobs], train: Train, registry: Registry, tmp_path: Path
) -> None:
    """What was made before the stop stays made, once; the rest is made after the restart."""
    train(
        "import os, pathlib, time\n"
        f"first = pathlib.Path({str(tmp_path / 'pid')!r})\n"
        "again = first.exists()\n"
        "make('onnx-fp32')\n"
        "if not again:\n"
        "    first.write_text(str(os.getpid())); time.sleep(600)\n"
        "make('onnx-int8')"
    )
    jobs = open_jobs()
    job = start(jobs)
    async with working(jobs):
        await wait_until_async(lambda: jobs.get(job.id).flavors and (tmp_path / "pid").exists())
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert jobs.get(job.id).state is JobState.RUNNING
    ended = await finish(open_jobs(), job)
    assert ended.state is JobState.FINISHED
    assert sorted(each.flavor.name for each in ended.flavors) == ["onnx-fp32", "onnx-int8"]
    assert len(registry.get_version("digits").flavors) == 3


async def test_only_missing_flavors_are_made_again(jobs: Jobs, train: Train, registry: Registry) -> None:
    """A flavor never changes, so asking for it again asks for the others only."""
    train("[make(name) for name in spec['flavors']]")
    kept = make_flavor(registry)
    registry.add_flavor("digits", 1, kept, actor=ACTOR)
    ended = await finish(jobs, start(jobs, "onnx-int8", "onnx-fp32"))
    assert [each.flavor.name for each in ended.flavors] == ["onnx-fp32"]
    registered = registry.get_version("digits").flavor("onnx-int8")
    assert registered is not None
    assert registered.flavor == kept
    with pytest.raises(AlreadyExists, match="digits:1 has onnx-int8 already"):
        start(jobs, "onnx-int8")


async def test_flavor_that_came_meanwhile_is_left_alone(jobs: Jobs, train: Train, registry: Registry) -> None:
    """A job that makes all flavors keeps those that are there."""
    train("make('onnx-int8'); make('onnx-fp32')")
    kept = make_flavor(registry)
    registry.add_flavor("digits", 1, kept, actor=ACTOR)
    assert (await finish(jobs, start(jobs))).state is JobState.FINISHED
    assert {each.created_by for each in registry.get_version("digits").flavors} == {ACTOR}
    registered = registry.get_version("digits").flavor("onnx-int8")
    assert registered is not None
    assert registered.flavor == kept


async def test_watcher_hears_of_each_step(jobs: Jobs, train: Train) -> None:
    """From waiting to the end, in order, and without asking all the time."""
    train("say('activity', text='quantizing'); make('onnx-fp32')")
    job = start(jobs)
    heard = [job.activity]
    async with working(jobs):
        while not jobs.get(job.id).state.has_ended:
            seen = jobs.change_count(job.id)
            heard.append(jobs.get(job.id).activity)
            await jobs.wait_for_change(job.id, seen)
    assert heard[0] == "waits for its turn"
    assert jobs.change_count(job.id) >= 5


async def test_job_asked_for_while_working_is_found(jobs: Jobs, train: Train) -> None:
    """The loop wakes for it."""
    train("make('onnx-fp32')")
    async with working(jobs):
        job = await asyncio.to_thread(start, jobs)
        await wait_until_async(lambda: jobs.get(job.id).state is JobState.FINISHED)


def test_start_is_audited(jobs: Jobs, train: Train, database: Database) -> None:
    """Who asked for what stands in the log."""
    train("pass")
    job = start(jobs, "onnx-int8")
    with database.read() as connection:
        entry = list(read_audit_entries(connection))[-1]
    assert (entry.actor, entry.action, entry.subject) == (ACTOR, "job.start", "digits:1")
    assert job.id in entry.detail


def test_pushed_version_can_not_be_compressed(jobs: Jobs, registry: Registry, tmp_path: Path) -> None:
    """There are no arrays and no code that it came from, even if its lineage names a run."""
    artifact = upload(registry, write_onnx_scale(tmp_path / "m").read_bytes())
    registry.create_version(model="digits", artifact=artifact, lineage=Lineage(run_id="a1"), actor=ACTOR)
    with pytest.raises(FailedPrecondition, match="digits:1 did not come out of a federated run"):
        start(jobs)


def test_unknown_model_or_job(jobs: Jobs) -> None:
    """What does not exist is named."""
    with pytest.raises(NotFound, match="no model 'digits'"):
        start(jobs)
    with pytest.raises(NotFound, match="no job 'x'"):
        jobs.get("x")


async def test_lost_bundle_fails_the_job(jobs: Jobs, train: Train, tmp_path: Path) -> None:
    """What the object store has lost is told, and not tried for ever."""
    train("make('onnx-fp32')")
    next((tmp_path / "objects").rglob(digest_of(b"make('onnx-fp32')"))).unlink()
    assert "no artifact" in await fail(jobs, start(jobs))


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
