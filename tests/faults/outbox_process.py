"""Processes that use one outbox until they are killed.

outbox_process.py append OUTBOX FIRST       appends events FIRST, FIRST+1, … and prints each number once it is kept
outbox_process.py send OUTBOX COORDINATOR   seals, sends and acknowledges; the folder COORDINATOR keeps what came
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from edgeward.durable import write_atomic
from edgeward_agent.telemetry import Outbox
from tests.agent.telemetry.records import make_record


def main() -> None:
    """For ever."""
    role, outbox, argument = sys.argv[1], Outbox(Path(sys.argv[2])), sys.argv[3]
    if role == "append":
        append(outbox, int(argument))
    else:
        send(outbox, Path(argument))


def append(outbox: Outbox, first: int) -> None:
    """Append and say so."""
    for number in itertools.count(first):
        outbox.append(make_record("events", number, padding=number % 200))
        if not outbox.problem:
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


def send(outbox: Outbox, coordinator: Path) -> None:
    """Commit each batch under its name, then acknowledge; a name that returns must return with the same bytes."""
    while True:
        outbox.seal()
        committed = []
        for batch in outbox.unacknowledged(100_000):
            path = coordinator / f"{batch.epoch}-{batch.sequence}"
            if path.exists():
                assert path.read_bytes() == batch.payload
            write_atomic(path, batch.payload)
            committed.append(batch.sequence)
        outbox.acknowledge(committed)


if __name__ == "__main__":
    main()
