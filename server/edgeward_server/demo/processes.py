"""The processes of a demo: started with a log each, recorded on disk, ended by id.

`processes.json` names every process by pid and start time, so that a later
`edgeward demo --stop` ends exactly these and never another one that was given
the same pid. Each leads a process group of its own: its workers end with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeward.durable import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RECORD: Final = "processes.json"
_GRACE_S: Final = 15.0
_POLL_S: Final = 0.05


class ProcessGone(Exception):
    """A process that should run has ended."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} ended with exit code {code}")
        self.name = name


class Processes:
    """What a demo in `folder` runs.

    Args:
        folder: Where the record and the logs go.
        environment: Of every process.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # Processes are started outside of the main thread: Ctrl-C interrupts only that one, so none is started
        # and then forgotten between the two lines that start it and note it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        self._first_started: list[str] = []

    def log_of(self, name: str) -> Path:
        """Where a process writes both of its streams."""
        return self._folder / "logs" / f"{name}.log"

    def start(self, name: str, arguments: Sequence[str | Path]) -> None:
        """Start one; its log is appended to."""
        self._starter.submit(self._start, name, arguments).result()

    def _start(self, name: str, arguments: Sequence[str | Path]) -> None:
        log = self.log_of(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                start_new_session=True,
            )
        self._running[name] = process
        if name not in self._first_started:
            self._first_started.append(name)
        self._persist()

    def verify_running(self) -> None:
        """Check all of them.

        Raises:
            ProcessGone: One has ended.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ProcessGone(name, process.returncode)

    def stop(self, name: str) -> int:
        """Ask one to end, and wait.

        Returns:
            Its exit code; negative where it had to be killed.
        """
        process = self._running.pop(name)
        process.terminate()
        try:
            code = process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            code = process.wait()
        self._persist()
        return code

    def stop_all(self) -> None:
        """End all, what was started first at last, and whatever they left in their groups; the last call."""
        self._starter.shutdown()
        if not self._first_started:
            return  # the record in the folder, if any, is of another demo
        ordered = self._in_order()
        self._stop_together(ordered[1:])
        self._stop_together(ordered[:1])
        self._persist()

    def _stop_together(self, names: Sequence[str]) -> None:
        processes = [self._running.pop(name) for name in names]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _in_order(self) -> list[str]:
        return [name for name in self._first_started if name in self._running]

    def _persist(self) -> None:
        # Processes that ended already have no start time, and nothing to be ended.
        pids = {name: self._running[name].pid for name in self._in_order()}
        started = {name: _start_time(pid) for name, pid in pids.items()}
        record = {name: (pid, started[name]) for name, pid in pids.items() if started[name] is not None}
        write_atomic(self._folder / _RECORD, json.dumps(record, indent=2).encode())


def running_in(folder: Path) -> dict[str, int]:
    """The processes by name and pid that an earlier demo left running in a folder."""
    try:
        record = json.loads((folder / _RECORD).read_text())
    except FileNotFoundError:
        return {}
    return {name: pid for name, (pid, started) in record.items() if _start_time(pid) == started}


def stop_recorded(folder: Path) -> list[str]:
    """End what an earlier demo left running.

    Returns:
        The names of what was ended.
    """
    running = running_in(folder)
    pids = list(running.values())
    _stop_recorded_together(folder, pids[1:])
    _stop_recorded_together(folder, pids[:1])
    return list(running)


def _stop_recorded_together(folder: Path, pids: Sequence[int]) -> None:
    for pid in pids:
        _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while set(pids) & set(running_in(folder).values()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid in pids:
        # What is left of its group; its number is not given out again while it has members.
        _signal_group(pid, signal.SIGKILL)


def tail_of(log: Path, *, lines: int = 15) -> str:
    """The end of a log, for where something failed."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process began; None where there is none, or it waits to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; what follows is fields 3 and on (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
