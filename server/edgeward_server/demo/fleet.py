"""A fleet on this machine: the coordinator, its first admin, devices that enroll and whose agents run."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgeward.v1 import fleet_pb2
from edgeward_server.demo.stage import COORDINATOR, DemoFailed, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP: Final = "demo"
WAIT_S: Final = 60.0

_HOST: Final = "127.0.0.1"

# A device reports each minute and waits up to a minute between attempts; nobody wants to watch that.
_PACE: Final = """\
report_interval_s = 1
[backoff]
initial_s = 0.2
maximum_s = 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the coordinator listens."""

    operators: int = 0
    devices: int = 0


def start_coordinator(stage: Stage, ports: Ports, *, heartbeat_s: float = 1.0) -> Ports:
    """Start it, and wait until it answers.

    Returns:
        The ports that it listens on.
    """
    data = stage.folder / COORDINATOR
    server_file = data / "server.json"
    server_file.unlink(missing_ok=True)
    listeners = ["--host", _HOST, "--port", str(ports.operators), "--device-port", str(ports.devices)]
    program = stage.program("edgeward")
    pace = ["--heartbeat-s", f"{heartbeat_s:g}"]
    stage.processes.start(COORDINATOR, [program, "serve", "--data-dir", data, *listeners, *pace])
    stage.wait_for("the coordinator is up", server_file.exists, within_s=WAIT_S, logs=[COORDINATOR])
    server = json.loads(server_file.read_text())
    return Ports(operators=int(server["port"]), devices=int(server["device_port"]))


def log_in(stage: Stage, ports: Ports) -> None:
    """As the first admin, whose token the coordinator printed once."""
    printed = stage.processes.log_of(COORDINATOR).read_text()
    token = re.search(r"ewt_\S+", printed)
    if token is None:
        raise DemoFailed("the coordinator printed no token for its first admin", logs=[COORDINATOR])
    server = json.loads((stage.folder / COORDINATOR / "server.json").read_text())
    address, fingerprint = f"{_HOST}:{ports.operators}", server["ca_fingerprint"]
    stage.edgeward("login", address, "--token", "-", "--ca-fingerprint", fingerprint, stdin=token[0])


def enroll_devices(stage: Stage, names: Sequence[str]) -> None:
    """One token for all of them; each makes its own key."""
    token = stage.edgeward(
        "devices", "token", "--group", GROUP, "--uses", str(len(names)), "--expires", "10m", "--json"
    )
    agent = stage.program("edgeward-agent")
    running = [
        stage.begin(agent, "enroll", token["enrollment_string"], "--state-dir", stage.folder / name, "--name", name)
        for name in names
    ]
    for process in running:
        stage.finish(process, agent)


def start_agent(stage: Stage, name: str, *, runtime: str, configuration: str = "") -> None:
    """With a configuration of its own, besides the pace that all have."""
    state = stage.folder / name
    (state / "agent.toml").write_text(_PACE + configuration)
    stage.processes.start(name, [stage.program("edgeward-agent"), "run", "--state-dir", state, "--runtime", runtime])


def wait_until_online(stage: Stage, names: Sequence[str]) -> None:
    """All of them have a session."""
    request = fleet_pb2.ListDevicesRequest(group=GROUP, state="online")

    def are_online() -> bool:
        with stage.connect() as client:
            return {device.name for device in client.fleet.ListDevices(request).devices} >= set(names)

    stage.wait_for("all devices are online", are_online, within_s=WAIT_S, logs=[COORDINATOR, *names])


def stop_coordinator(stage: Stage, ports: Ports) -> None:
    """Ask it to end, and see that nobody answers any more."""
    code = stage.processes.stop(COORDINATOR)
    if code:
        raise DemoFailed(f"the coordinator ended with exit code {code}", logs=[COORDINATOR])
    for port in (ports.operators, ports.devices):
        with socket.socket() as probe:
            probe.settimeout(5)
            if probe.connect_ex((_HOST, port)) == 0:
                raise DemoFailed(f"somebody still answers on port {port}")
