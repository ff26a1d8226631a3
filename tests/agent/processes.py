"""`edgeward-agent run` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeward.protocol.state import ModelState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent.simulator import SimulatedCoordinator


@contextmanager
def agent_process(
    state: Path, *options: str, clock_off_by_s: float = 0, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The agent; killed at the end if it still runs. Its log is in `agent.log` beside the state."""
    program = ["tests.faults.agent_with_clock", str(clock_off_by_s)] if clock_off_by_s else ["edgeward_agent"]
    with (state.parent / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "run", "--state-dir", state, "--backoff-max", "0.2", *options],
            stderr=log,
            env={**os.environ, **environment},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


def log_of(state: Path) -> str:
    """What the agent has said."""
    return (state.parent / "agent.log").read_text()


def serves(coordinator: SimulatedCoordinator, version: int) -> bool:
    """Whether a device has reported it."""
    return any(
        model.version == version and model.state is ModelState.SERVING
        for reported in coordinator.reported.values()
        for model in reported.models
    )
