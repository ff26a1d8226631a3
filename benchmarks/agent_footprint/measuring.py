"""Memory, CPU time and start-up of processes, read from the kernel."""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Of a process and its children: resident MiB, how many processes, and the share of one core while idle."""

    resident_mib: float
    processes: int
    idle_core_share: float


def measure_idle(pid: int, *, settle_s: float, observe_s: float) -> Footprint:
    """Let a process settle, then watch it do nothing."""
    time.sleep(settle_s)
    family = _family(pid)
    before = sum(_cpu_s(process) for process in family)
    began = time.monotonic()
    time.sleep(observe_s)
    used = sum(_cpu_s(process) for process in family) - before
    return Footprint(
        resident_mib=sum(process.memory_info().rss for process in family) / MIB,
        processes=len(family),
        idle_core_share=used / (time.monotonic() - began),
    )


def time_to_line(
    command: Sequence[str | Path], line: str, *, environment: Mapping[str, str], within_s: float = 60
) -> tuple[float, subprocess.Popen[str]]:
    """Start a command and wait until it writes a line that contains `line` on stderr or stdout.

    Returns:
        Seconds, and the running process.

    Raises:
        RuntimeError: It ended or took too long.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
    )
    stream = process.stdout
    if stream is None:
        raise RuntimeError("no output to read")
    for written in stream:
        if line in written:
            return time.monotonic() - began, process
        if time.monotonic() - began > within_s:
            break
    end(process)
    raise RuntimeError(f"{command[0]} wrote no {line!r}")


def median_start_s(start: Callable[[], tuple[float, subprocess.Popen[str]]], *, times: int) -> float:
    """The median of several starts, after one that is not counted; each started process is ended."""
    took = []
    for _ in range(times + 1):
        seconds, process = start()
        took.append(seconds)
        end(process)
    return statistics.median(took[1:])


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, then make it."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
