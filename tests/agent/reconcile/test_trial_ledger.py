"""What is added up of a version on trial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward_agent.reconcile import Progress
from edgeward_agent.reconcile.trial_ledger import TrialLedger
from edgeward_agent.telemetry import Subject, TrialFile

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = Subject(role="active", version=2, digest=digest_of(b"model"), generation=5)


def saw(folder: Path, *, rows: int = 1, failed: bool = False, subject: Subject = SUBJECT) -> TrialFile:
    """A process that has seen one call."""
    trial = TrialFile(folder, subject)
    trial.count(rows=rows, failed=failed)
    trial.write()
    return trial


def names(folder: Path) -> list[str]:
    """The files of processes."""
    return [path.name for path in folder.glob("*.json")]


def test_processes_add_up(tmp_path: Path) -> None:
    """Those that run and those that have ended; time is what passed between the looks."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=1000.0)
    running = saw(tmp_path, rows=3)
    saw(tmp_path, rows=4, failed=True).close()
    assert ledger.look(1002.5) == Progress(elapsed_s=2.5, predictions=3, calls=2, errors=1)
    running.close()


def test_other_trials_do_not_count(tmp_path: Path) -> None:
    """What was seen of it as a candidate, or the last time, or of another version."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    for other in (replace(SUBJECT, role="candidate"), replace(SUBJECT, generation=4), replace(SUBJECT, version=3)):
        saw(tmp_path, subject=other).close()
    assert ledger.look(1.0) == Progress(elapsed_s=1.0)


def test_files_of_processes_that_are_gone_are_added_and_removed(tmp_path: Path) -> None:
    """A device with a thousand short processes keeps a handful of files, and counts each once."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    running = saw(tmp_path, rows=10)
    for _ in range(5):
        saw(tmp_path).close()
    assert ledger.look(11.0).predictions == 15
    assert len(names(tmp_path)) == 1
    assert ledger.look(12.0).predictions == 15
    running.close()


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """Time and counts; what passed while the agent did not run does not count, whatever any clock says."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=5_000_000.0)
    saw(tmp_path, rows=7).close()
    ledger.look(5_000_030.0)
    ledger.persist()
    again = TrialLedger(tmp_path, SUBJECT, now_s=3.0)
    assert again.look(4.0) == Progress(elapsed_s=31.0, predictions=7, calls=1)


def test_a_crash_after_adding_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums are on the disk, the file is not removed yet: its name tells."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    saw(tmp_path, rows=7).close()
    with monkeypatch.context() as patch:
        patch.setattr("edgeward_agent.reconcile.trial_ledger.remove_trials", lambda *_: None)
        ledger.persist()
    assert len(names(tmp_path)) == 1
    again = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    assert again.look(0.0).predictions == 7
    again.persist()
    assert names(tmp_path) == []
    assert TrialLedger(tmp_path, SUBJECT, now_s=0.0).look(0.0).predictions == 7


def test_another_activation_begins_anew(tmp_path: Path) -> None:
    """The same version after another release."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    ledger.look(50.0)
    ledger.persist()
    assert TrialLedger(tmp_path, replace(SUBJECT, generation=6), now_s=0.0).look(0.0) == Progress()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"subject": {}, "progress": {"elapsed_s": 1e999}, "added": []}',
        b'{"subject": {}, "progress": {"calls": -1}, "added": []}',
        b'{"subject": {}, "progress": {"more": 1}, "added": []}',
        b"[1]",
    ],
)
def test_a_damaged_ledger_begins_anew(tmp_path: Path, content: bytes) -> None:
    """A trial that lasts longer is the worst that comes of it."""
    (tmp_path / "progress").write_bytes(content)
    assert TrialLedger(tmp_path, SUBJECT, now_s=0.0).look(1.0) == Progress(elapsed_s=1.0)


def test_nothing_stays_of_a_trial_that_is_over(tmp_path: Path) -> None:
    """Also not the files of processes that still run."""
    ledger = TrialLedger(tmp_path, SUBJECT, now_s=0.0)
    running = saw(tmp_path)
    ledger.persist()
    ledger.remove()
    assert list(tmp_path.iterdir()) == []
    running.close()
