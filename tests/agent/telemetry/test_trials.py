"""Tests of `edgeward_agent.telemetry.trials`."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.digests import digest_of
from edgeward_agent.telemetry import Subject, TrialFile, open_trial, read_trials, remove_trials
from edgeward_agent.telemetry import trials as module

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_agent.telemetry import FoundTrial

SUBJECT = Subject(role="active", version=2, digest=digest_of(b"model"), generation=5)

# Opens a trial, counts a call, writes; then ends as it is told.
PROCESS = """
import os, signal, sys
from pathlib import Path
from edgeward.protocol.digests import digest_of
from edgeward_agent.telemetry import Subject, TrialFile
subject = Subject(role="active", version=2, digest=digest_of(b"model"), generation=5)
trial = TrialFile(Path(sys.argv[1]), subject)
trial.count(rows=3, failed=False)
trial.write()
match sys.argv[2]:
    case "close": trial.close()
    case "exit": sys.exit(3)
    case "raise": raise RuntimeError
    case "kill":
        with trial.at_work(): os.kill(os.getpid(), signal.SIGKILL)
    case "segfault":
        with trial.at_work():
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
    case "fork":
        with trial.at_work():
            if os.fork() == 0: sys.exit()
            os.wait()
            os.kill(os.getpid(), signal.SIGKILL)
    case "restart":
        with trial.at_work(): pass
        os.kill(os.getpid(), signal.SIGTERM)
    case "kill between calls":
        with trial.at_work(): pass
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run_process(folder: Path, end: str) -> int:
    """A process with a trial that ends like this; its exit status."""
    return subprocess.run([sys.executable, "-c", PROCESS, folder, end], check=False, capture_output=True).returncode


def only(folder: Path) -> FoundTrial:
    """The one that is there."""
    (found,) = read_trials(folder)
    return found


def test_what_was_counted_is_read(tmp_path: Path) -> None:
    """By any process, while it runs and after."""
    trial = TrialFile(tmp_path / "scale", SUBJECT)
    trial.count(rows=3, failed=False)
    trial.count(rows=9, failed=True)
    assert trial.write()
    found = only(tmp_path / "scale")
    assert found.is_running
    assert not found.crashed
    assert found.trial.subject == SUBJECT
    assert (found.trial.predictions, found.trial.calls, found.trial.errors) == (3, 2, 1)
    trial.count(rows=1, failed=False)
    trial.close()
    found = only(tmp_path / "scale")
    assert (found.is_running, found.crashed, found.trial.ended) == (False, False, True)
    assert (found.trial.predictions, found.trial.calls, found.trial.errors) == (4, 3, 1)


def test_write_says_whether_calls_have_failed_since(tmp_path: Path) -> None:
    """So that the caller can hurry with what else it has to tell."""
    trial = TrialFile(tmp_path, SUBJECT)
    assert not trial.write()
    trial.count(rows=0, failed=True)
    assert trial.write()
    trial.count(rows=1, failed=False)
    assert not trial.write()
    trial.close()
    trial.close()
    assert not trial.write()


@pytest.mark.parametrize(
    ("end", "status", "crashed"),
    [
        ("close", 0, False),
        ("exit", 3, False),
        ("raise", 1, False),
        ("kill", -signal.SIGKILL, True),
        ("segfault", -signal.SIGSEGV, True),
        ("fork", -signal.SIGKILL, True),
        ("restart", -signal.SIGTERM, False),
        ("kill between calls", -signal.SIGKILL, False),
    ],
)
def test_a_crash_is_told_from_an_end(tmp_path: Path, end: str, status: int, crashed: bool) -> None:  # noqa: FBT001
    """A program that ends without a word to us has ended in order, also by an exception; one that dies has not.

    One that is killed between two calls has not died of the model. A fork that ends does not end it for its parent.
    """
    assert run_process(tmp_path, end) == status
    found = only(tmp_path)
    assert (found.is_running, found.crashed) == (False, crashed)
    assert found.trial.calls == 1


def test_the_model_is_at_work_until_the_last_thread_is_out(tmp_path: Path) -> None:
    """One that comes and goes meanwhile takes nothing away."""
    trial = TrialFile(tmp_path, SUBJECT)
    (path,) = tmp_path.iterdir()
    with trial.at_work():
        with trial.at_work():
            pass
        assert path.read_bytes().endswith(b"!")
    assert not path.read_bytes().endswith(b"!")
    with trial.at_work():
        trial.close()
    assert not only(tmp_path).crashed


def test_a_power_cut_is_no_crash_of_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who died with the device says nothing; its counts stay."""
    run_process(tmp_path, "kill")
    monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    found = only(tmp_path)
    assert (found.crashed, found.trial.calls) == (False, 1)


def test_a_version_that_can_not_be_loaded_is_told_in_words(tmp_path: Path) -> None:
    """Cut to what the file has room for, in any script."""
    TrialFile(tmp_path, SUBJECT).fail("…" * 2000)
    found = only(tmp_path)
    assert found.trial.problem == "…" * 400
    assert not found.crashed


def test_a_file_that_was_removed_does_no_harm(tmp_path: Path) -> None:
    """The agent removes what it has judged, whoever still writes to it."""
    trial = TrialFile(tmp_path, SUBJECT)
    remove_trials(tmp_path, [only(tmp_path).name])
    trial.count(rows=1, failed=True)
    trial.write()
    trial.close()
    assert read_trials(tmp_path) == []


def test_without_a_disk_there_is_no_trial(tmp_path: Path) -> None:
    """And nothing that raises."""
    (tmp_path / "file").write_bytes(b"")
    assert open_trial(tmp_path / "file" / "scale", SUBJECT) is None
    assert read_trials(tmp_path / "nothing") == []


@given(st.binary(max_size=300))
def test_damaged_files_are_passed_over(tmp_path: Path, content: bytes) -> None:
    """Whatever is in them."""
    (tmp_path / "1-a.json").write_bytes(content)
    assert read_trials(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [b'"version": -2', b'"version": true', b'"role": "judge"', b'"digest": "x"', b'"calls": 1.5', b'"errors": null'],
)
def test_a_file_that_says_what_can_not_be_is_damaged(tmp_path: Path, change: bytes) -> None:
    """A count below nothing, or a name of a file that is none."""
    trial = TrialFile(tmp_path, SUBJECT)
    trial.close()
    path = tmp_path / only(tmp_path).name
    key = change.partition(b":")[0]
    content = path.read_bytes()
    start = content.index(key)
    end = min(content.index(mark, start) for mark in (b",", b"}"))
    path.write_bytes(content[:start] + change + content[end:])
    assert read_trials(tmp_path) == []
