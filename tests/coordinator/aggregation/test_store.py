"""The rows of runs, on both databases."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.bundle import pack_bundle
from edgeward_coordinator.aggregation import RoundRecord, RunRecord, RunRequest, Runs, RunState
from edgeward_coordinator.aggregation.states import RunEvent
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.storage import read_audit_entries
from tests.coordinator.aggregation.fleet import APPS, Fleet

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.storage import BlobStore, Database
    from tests.conftest import SetClock

ENTRY = RoundRecord(
    call=1,
    number=1,
    phase="train",
    asked=3,
    answered=2,
    failed=1,
    metrics={"loss": 0.5},
    took_s=1.5,
    bytes_up=10,
    bytes_down=20,
)


@pytest.fixture
def runs(database: Database, blobs: BlobStore, tmp_path: Path, clock: SetClock) -> Runs:
    """Runs that nobody works on."""
    registry = Registry(database, blobs, tmp_path / "scratch")
    path = tmp_path / "app.zip"
    path.write_bytes(pack_bundle(APPS / "mean_app"))
    registry.store_artifact(path)
    return Runs(
        database=database, registry=registry, link=Fleet(APPS / "mean_app"), folder=tmp_path / "runs", clock=clock
    )


@pytest.fixture
def started(runs: Runs, tmp_path: Path) -> RunRecord:
    """One that waits for its devices."""
    from edgeward.protocol.digests import digest_of_file

    digest = digest_of_file(tmp_path / "app.zip")
    return runs.start(RunRequest(group="lab", bundle_digest=digest, seed=2**63 - 1, rounds=4), actor="ann")


def test_run_is_read_back(runs: Runs, started: RunRecord, clock: SetClock) -> None:
    """What was asked for is on record, the largest seed too."""
    assert runs.get(started.run_id) == started
    assert runs.list_runs() == runs.list_runs("lab") == [started]
    assert runs.list_runs("elsewhere") == []
    assert (started.state, started.rounds, started.seed) == (RunState.PENDING, 4, 2**63 - 1)
    assert (started.app, started.group, started.model) == ("mean-app", "lab", "mean")
    assert (started.created_at, started.created_by) == (clock.now, "ann")


def test_drawn_seed_is_kept(runs: Runs, started: RunRecord) -> None:
    """A run without a seed gets one, and says which."""
    drawn = runs.start(RunRequest(group="lab", bundle_digest=started.bundle_digest), actor="ann")
    assert 0 < drawn.seed < 2**63


def test_rounds_are_kept_once(runs: Runs, started: RunRecord) -> None:
    """A round that replay tells again changes nothing."""
    runs.add_round(started.run_id, ENTRY)
    runs.add_round(started.run_id, ENTRY)
    record = runs.get(started.run_id)
    assert record.rounds_log == (ENTRY,)
    assert record.rounds_done == 1


def test_what_postgresql_would_refuse_is_kept_all_the_same(runs: Runs, started: RunRecord) -> None:
    """Infinite settings, a long message type and a NUL in an error are told as well as a column can."""
    request = RunRequest(group="lab", bundle_digest=started.bundle_digest, run_config={"fraction": "inf"})
    run_id = runs.start(request, actor="ann").run_id
    runs.add_round(run_id, replace(ENTRY, phase="train." + "x" * 100))
    runs.advance(run_id, RunEvent.APP_FAILED, words="no\0luck")
    record = runs.get(run_id)
    assert (record.error, len(record.rounds_log[0].phase)) == ("noluck", 32)


def test_states_follow_events(runs: Runs, started: RunRecord, clock: SetClock) -> None:
    """Each instant stands at its event, and what ended a run stays."""
    clock.advance(timedelta(minutes=1))
    runs.advance(started.run_id, RunEvent.DEVICES_GATHERED)
    assert runs.get(started.run_id).started_at == clock.now
    clock.advance(timedelta(minutes=1))
    runs.advance(started.run_id, RunEvent.APP_FAILED, words="no luck")
    runs.advance(started.run_id, RunEvent.APP_ENDED, version=3)
    record = runs.get(started.run_id)
    assert (record.state, record.error, record.version) == (RunState.FAILED, "no luck", 0)
    assert record.ended_at == clock.now
    assert record.started_at == clock.now - timedelta(minutes=1)


def test_decisions_are_audited(runs: Runs, started: RunRecord, database: Database) -> None:
    """Who started and who stopped a run is in the log."""
    runs.stop(started.run_id, actor="bob")
    with database.read() as connection:
        entries = [(entry.actor, entry.action) for entry in read_audit_entries(connection)]
    assert entries[-2:] == [("ann", "run.start"), ("bob", "run.stop")]


def test_unknown_run_is_not_found(runs: Runs) -> None:
    """Whoever asks for it."""
    with pytest.raises(NotFound, match="no run 'x'"):
        runs.get("x")
    with pytest.raises(NotFound, match="no run 'x'"):
        runs.stop("x", actor="ann")


async def test_watcher_sees_each_change_until_the_end(runs: Runs, started: RunRecord) -> None:
    """The run now, then again when something changed, also where another coordinator did it."""
    watching = runs.changes(started.run_id)
    assert (await anext(watching)).state is RunState.PENDING
    await asyncio.to_thread(runs.advance, started.run_id, RunEvent.DEVICES_GATHERED)
    assert (await anext(watching)).state is RunState.RUNNING
    await asyncio.to_thread(runs.stop, started.run_id, actor="ann")
    assert (await anext(watching)).state is RunState.STOPPED
    with suppress(StopAsyncIteration):
        raise AssertionError(await anext(watching))
