"""Processes that append to one outbox and send from it, killed again and again: nothing is lost, nothing doubled."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from edgeward.protocol.telemetry import decode_batch
from edgeward_agent.telemetry import Outbox
from tests.agent.telemetry.records import number_of
from tests.faults import outbox_process

ROOT = Path(__file__).parents[2]
ROUNDS = 5
_APART = 1_000_000


def start(role: str, outbox: Path, argument: object) -> subprocess.Popen[bytes]:
    """One of the processes."""
    command = [sys.executable, "-m", outbox_process.__name__, role, str(outbox), str(argument)]
    # Unbuffered: what `readline` took in advance, `communicate` would not see.
    return subprocess.Popen(command, bufsize=0, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Every event that was kept arrives once, in the order of its process, whoever was killed when."""
    rng = random.Random(20260101)
    outbox, coordinator = tmp_path / "outbox.db", tmp_path / "coordinator"
    coordinator.mkdir()
    kept: dict[int, list[int]] = {}
    for turn in range(ROUNDS):
        firsts = [(2 * turn + writer + 1) * _APART for writer in range(2)]
        writers = [start("append", outbox, first) for first in firsts]
        sender = start("send", outbox, coordinator)
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            sender.wait(rng.uniform(0, 0.5))
        for process in rng.sample([*writers, sender], 3):
            process.kill()
        for first, writer in zip(firsts, writers, strict=True):
            stdout, stderr = writer.communicate()
            assert stderr == b""
            kept[first] = [first, *(int(line) for line in stdout.splitlines(keepends=True) if line.endswith(b"\n"))]
        assert sender.communicate()[1] == b""

    arrived = [number for payload in batches(outbox, coordinator) for number in numbers_in(payload)]
    assert len(arrived) == len(set(arrived))
    for first, numbers in kept.items():
        of_this_writer = [number for number in arrived if first <= number < first + _APART]
        # The last one may be kept without having been said.
        assert of_this_writer in (numbers, [*numbers, numbers[-1] + 1])


def batches(outbox: Path, coordinator: Path) -> list[bytes]:
    """All that was sent or still waits, in the order of its sequence."""
    opened = Outbox(outbox)
    while opened.seal():
        pass
    found = {
        int(path.name.rpartition("-")[2]): path.read_bytes()
        for path in coordinator.iterdir()
        if not path.name.startswith(".")
    }
    for batch in opened.unacknowledged(1 << 40):
        assert found.setdefault(batch.sequence, batch.payload) == batch.payload
    opened.close()
    return [payload for _, payload in sorted(found.items())]


def numbers_in(payload: bytes) -> list[int]:
    """The numbers of a batch's events."""
    return [number for record in decode_batch(payload) if (number := number_of(record)) is not None]
