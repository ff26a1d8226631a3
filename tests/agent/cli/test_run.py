"""`edgeward-agent run` as a process: its signals, its supervisor, what it imports, and the crash hook."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.artifacts import STEPS
from tests.agent.enrolled import enroll_device
from tests.agent.processes import agent_process, log_of, serves
from tests.agent.samples import scale_model
from tests.agent.simulator import SimulatedCoordinator
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def coordinator() -> Iterator[SimulatedCoordinator]:
    """On a thread of its own."""
    with SimulatedCoordinator().in_thread() as running:
        yield running


@pytest.fixture
def state(coordinator: SimulatedCoordinator, tmp_path: Path) -> Path:
    """Of an enrolled device."""
    asyncio.run(enroll_device(coordinator, tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_in_order(coordinator: SimulatedCoordinator, state: Path, number: signal.Signals) -> None:
    """Exit status 0, and the log says ready and stopped."""
    with agent_process(state) as process:
        wait_until(lambda: coordinator.online)
        process.send_signal(number)
        assert process.wait(30) == 0
    log = log_of(state)
    assert "ready: device" in log
    assert "stopped" in log
    assert "Traceback" not in log


def test_the_supervisor_hears_that_it_is_ready(coordinator: SimulatedCoordinator, state: Path, tmp_path: Path) -> None:
    """By the protocol of sd_notify, before a network is needed."""
    coordinator.stop_in_thread()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(30)
        with agent_process(state, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert supervisor.recv(100) == b"READY=1"
            process.terminate()
            assert supervisor.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0


def test_a_kill_at_a_step_is_survived(coordinator: SimulatedCoordinator, state: Path, tmp_path: Path) -> None:
    """The hook kills where it says, and without it the update goes on to its end."""
    coordinator.deploy(scale_model(coordinator, tmp_path))
    with agent_process(state, EDGEWARD_CRASH_AT="verified") as process:
        assert process.wait(30) == -signal.SIGKILL
    assert not serves(coordinator, 1)
    with agent_process(state):
        wait_until(lambda: serves(coordinator, 1))


def test_an_unknown_step_is_misuse(state: Path) -> None:
    """With the steps that there are."""
    with agent_process(state, EDGEWARD_CRASH_AT="somewhere") as process:
        assert process.wait(30) == 2
    assert f"EDGEWARD_CRASH_AT takes one of {', '.join(STEPS)}" in log_of(state)


def test_options_override_the_file(coordinator: SimulatedCoordinator, state: Path) -> None:
    """Labels and runtimes of the command line are what the coordinator hears."""
    (state / "agent.toml").write_text('runtimes = ["onnx"]\n[labels]\nsite = "b"\nroom = "1"\n')
    with agent_process(state, "--runtime", "tflite", "--label", "site=c"):
        wait_until(lambda: coordinator.hellos)
    _, hello = coordinator.hellos[0]
    assert hello.labels == {"site": "c", "room": "1"}
    assert [runtime.name for runtime in hello.inventory.runtimes] == ["ai-edge-litert"]


@pytest.mark.parametrize(
    "options",
    [("--runtime", "tensorrt"), ("--heartbeat", "-1"), ("--node-config", "data")],
    ids=lambda options: options[0],
)
def test_an_option_that_can_not_be_is_misuse(state: Path, options: tuple[str, ...]) -> None:
    """Status 2 and one sentence that names the option."""
    with agent_process(state, *options) as process:
        assert process.wait(30) == 2
    assert f"edgeward-agent: {options[0]} takes" in log_of(state)


HEAVY = (
    "torch flwr sqlalchemy pydantic requests onnxruntime ai_edge_litert tflite_runtime fastapi onnx cryptography "
    "tuf securesystemslib urllib3"
)

PROBE = """
import asyncio, sys
from pathlib import Path
import edgeward_agent.cli.enroll, edgeward_agent.cli.predict, edgeward_agent.cli.status, edgeward_agent.cli.run
from edgeward_agent.config import AgentConfig
from edgeward_agent.daemon import Daemon
from edgeward_agent.state_dir import StateDir

async def boot():
    stop = asyncio.Event()
    daemon = Daemon(StateDir(Path(sys.argv[1])), AgentConfig())
    await daemon.run(stop, ready=stop.set)

asyncio.run(boot())
print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_main_process_stays_light(state: Path) -> None:
    """Booted and stopped, with every command imported, it has loaded nothing heavy; a runtime comes with a model."""
    output = subprocess.run(
        [sys.executable, "-c", PROBE, state], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    loaded = set(output.split())
    assert "grpc" in loaded
    assert loaded & set(HEAVY.split()) == set()


def test_a_prediction_does_not_wait_for_grpc() -> None:
    """Nor does anything of the command line that stays on the device."""
    code = "import sys, edgeward_agent.cli.predict, edgeward_agent.cli.main; print('grpc' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    assert output.strip() == "False"
