"""Coordinator, agents and commands as they are in the field: processes of their own, over TLS on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.v1 import fleet_pb2
from edgeward_server.cli.plain import as_plain
from edgeward_server.client import connected, load_contexts
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.tensors import Array

_SCRIPTS = Path(sysconfig.get_path("scripts"))
EDGEWARD = _SCRIPTS / "edgeward"
AGENT = _SCRIPTS / "edgeward-agent"

_LIMIT_S = 90
# Quick to come back, so that tests of absence are short.
_CONFIGURATION = """\
report_interval_s = 0.3
refused_retry_s = 1
[backoff]
initial_s = 0.1
maximum_s = 0.5
[node_config]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def verify_one_sentence(self, *parts: str, code: int) -> None:
        """It failed as asked: no trace, one sentence (what was wrong; what to do) that says all `parts`."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        said = " ".join(" ".join(lines).split())
        assert self.code == code, (self.code, self.err)
        assert "Traceback" not in self.err
        assert len(lines) <= 2, self.err
        for part in parts:
            assert part in said, (part, said)


def run_program(program: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run a command to its end."""
    process = subprocess.run(
        [program, *arguments],
        env={**os.environ, "COLUMNS": "1000", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return Outcome(code=process.returncode, out=process.stdout, err=process.stderr)


class Daemon:
    """A program that goes on until it is ended; it writes to a log of its own."""

    def __init__(self, log: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.log_path = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start_program(self, *arguments: str | Path) -> None:
        """Start it; one run at a time."""
        assert not self.is_running
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    @property
    def log(self) -> str:
        """All that it wrote in all its runs."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Of the run that goes on, or of the last one."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As a supervisor does; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(30)


class Coordinator(Daemon):
    """`edgeward serve`, on free ports at first and on the same ones ever after."""

    def __init__(self, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "coordinator.log", environment=environment)
        self.data_dir = folder / "data"
        self.options = options
        self.server: dict[str, Any] = {"port": 0, "device_port": 0}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        file = self.data_dir / "server.json"
        file.unlink(missing_ok=True)  # a killed process leaves its own
        ports = ["--port", str(self.server["port"]), "--device-port", str(self.server["device_port"])]
        listen = ["--host", "127.0.0.1", *ports, "--heartbeat-s", "0.5", "--log-format", "json"]
        self.start_program(EDGEWARD, "serve", "--data-dir", self.data_dir, *listen, *self.options)
        wait_until(lambda: file.exists() or not self.is_running, within_s=60, what="the coordinator is up")
        assert self.is_running, self.log
        self.server = json.loads(file.read_text())

    @property
    def address(self) -> str:
        """For tokens and enrollment."""
        return f"127.0.0.1:{self.server['port']}"

    @property
    def first_token(self) -> str:
        """As it was printed once."""
        match = re.search(r"ewt_\S+", self.log)
        assert match is not None, self.log
        return match[0]

    def admin(self, folder: Path) -> Operator:
        """Its first admin, logged in, with the configuration in `folder`."""
        operator = Operator(folder)
        fingerprint = str(self.server["ca_fingerprint"])
        login = operator("login", self.address, "--token", self.first_token, "--ca-fingerprint", fingerprint)
        assert login.code == 0, login.err
        return operator


class Operator:
    """Somebody who types `edgeward …`."""

    def __init__(self, config_folder: Path) -> None:
        self._config_folder = config_folder
        self.environment = {"EDGEWARD_CONFIG_DIR": str(config_folder)}

    def __call__(self, *arguments: str | Path) -> Outcome:
        """Run a command to its end."""
        return run_program(EDGEWARD, *arguments, environment=self.environment)

    def document(self, *arguments: str | Path) -> Any:
        """The JSON of a command that must succeed."""
        return self(*arguments, "--json").document

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command; who starts it waits for it."""
        return subprocess.Popen(
            [EDGEWARD, *arguments],
            env={**os.environ, "COLUMNS": "1000", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def enrollment_string(self, *, group: str = "lab", uses: int = 1, expires: str = "1h") -> str:
        """To paste on devices."""
        options = ["--group", group, "--uses", str(uses), "--expires", expires]
        return str(self.document("devices", "token", *options)["enrollment_string"])

    def state_of(self, device: str) -> str:
        """Online, offline, …."""
        return str(self._look_at(device)["device"]["state"])

    def predictions_of(self, device: str) -> int:
        """As the coordinator's tables have them."""
        return sum(int(total["predictions"]) for total in self._look_at(device).get("totals", []))

    def _look_at(self, device: str) -> Any:
        """What `devices show` prints; without a process for each look, since tests look often."""
        with connected(load_contexts(self._config_folder).pick()) as client:
            return as_plain(client.fleet.GetDevice(fleet_pb2.GetDeviceRequest(device=device)))


class Device(Daemon):
    """One device: its state folder, its agent, its command line."""

    def __init__(self, folder: Path, name: str, *, state_dir: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / f"{name}.log")
        self.name = name
        self.state_dir = state_dir or folder / name
        self.folder = folder

    def __call__(self, command: str, *arguments: str | Path) -> Outcome:
        """Run `edgeward-agent COMMAND` to its end."""
        return run_program(AGENT, command, *arguments, "--state-dir", self.state_dir)

    def enroll(self, string: str, *options: str) -> Outcome:
        """Become a member."""
        return self("enroll", string, "--name", self.name, *options)

    def configure(self, **node_config: str) -> None:
        """The pace of tests, and what training code reads."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in node_config.items()]
        (self.state_dir / "agent.toml").write_text(_CONFIGURATION + "\n".join(lines) + "\n")

    def join(self, operator: Operator, **node_config: str) -> None:
        """Enroll and start the agent."""
        enrolled = self.enroll(operator.enrollment_string())
        assert enrolled.code == 0, enrolled.err
        self.configure(**node_config)
        self.start()

    def start(self) -> None:
        """Start the agent."""
        self.start_program(AGENT, "run", "--state-dir", self.state_dir)

    def predict(self, inputs: Array, *, model: str = "scale") -> Outcome:
        """One call."""
        path = self.folder / f"{self.name}-inputs.npz"
        np.savez(path, x=inputs)
        return self("predict", "--model", model, "--input", path)
