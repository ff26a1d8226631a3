"""The processes of a demo, with real ones."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from edgeward_server.demo.processes import Processes, ProcessGone, running_in, stop_recorded, tail_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """None yet; all ended at the end."""
    processes = Processes(tmp_path, environment=os.environ)
    yield processes
    processes.stop_all()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_is_recorded_while_it_runs(processes: Processes, tmp_path: Path) -> None:
    """Who comes later finds it by id."""
    processes.start("sleeper", SLEEPER)
    assert list(running_in(tmp_path)) == ["sleeper"]
    assert processes.stop("sleeper") != 0
    assert running_in(tmp_path) == {}


def test_what_a_process_writes_is_in_its_log(processes: Processes) -> None:
    """Its last words can be shown."""
    processes.start("sleeper", SLEEPER)
    wait_until(lambda: tail_of(processes.log_of("sleeper")) == "ready")


def test_a_process_that_ended_by_itself_is_noticed(processes: Processes) -> None:
    """By name and exit code."""
    processes.start("brief", [sys.executable, "-c", "raise SystemExit(7)"])

    def is_noticed() -> bool:
        try:
            processes.verify_running()
        except ProcessGone as error:
            return str(error) == "brief ended with exit code 7"
        return False

    wait_until(is_noticed)


def test_workers_end_with_their_process(processes: Processes, tmp_path: Path) -> None:
    """A worker that a killed process left behind does not outlive the demo."""
    worker = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    script = worker + "print(p.pid, flush=True); p.wait()"
    processes.start("parent", [sys.executable, "-c", script])
    wait_until(lambda: tail_of(processes.log_of("parent")))
    pid = int(tail_of(processes.log_of("parent")))
    processes.stop_all()
    wait_until(lambda: not is_alive(pid), what="the worker ended")


def test_another_process_with_a_recorded_pid_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    """A pid that was given to somebody else since is recognised by its start time."""
    processes.start("sleeper", SLEEPER)
    record = tmp_path / "processes.json"
    record.write_text(record.read_text().replace(str(running_in(tmp_path)["sleeper"]), str(os.getpid())))
    assert stop_recorded(tmp_path) == []


def test_a_later_command_ends_what_was_kept(processes: Processes, tmp_path: Path) -> None:
    """By the record alone."""
    processes.start("sleeper", SLEEPER)
    assert stop_recorded(tmp_path) == ["sleeper"]
    assert running_in(tmp_path) == {}


def test_ending_nothing_leaves_the_record_of_others(processes: Processes, tmp_path: Path) -> None:
    """A second demo in the same folder, refused, does not forget the first one's processes."""
    processes.start("sleeper", SLEEPER)
    Processes(tmp_path, environment=os.environ).stop_all()
    assert list(running_in(tmp_path)) == ["sleeper"]


def test_what_was_started_first_ends_last(processes: Processes, tmp_path: Path) -> None:
    """Also when it was started again since, as the coordinator is."""
    note = "import pathlib, signal, sys, time; "
    note += "signal.signal(signal.SIGTERM, lambda *_: (print(time.monotonic(), flush=True), sys.exit())); "
    ready = note + "print('ready', flush=True); time.sleep(60)"
    for name in ("first", "second"):
        processes.start(name, [sys.executable, "-c", ready])
    wait_until(lambda: all(tail_of(processes.log_of(name)) == "ready" for name in ("first", "second")))
    processes.stop("first")
    processes.log_of("first").unlink()
    processes.start("first", [sys.executable, "-c", ready])
    wait_until(lambda: tail_of(processes.log_of("first"), lines=1) == "ready")
    processes.stop_all()
    assert float(tail_of(processes.log_of("second"), lines=1)) < float(tail_of(processes.log_of("first"), lines=1))
