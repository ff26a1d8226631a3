"""A real coordinator in a process of its own, and the command line as an operator's hands."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from edgeward_server.cli.app import run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

EDGEWARD = Path(sysconfig.get_path("scripts")) / "edgeward"


class Coordinator:
    """`edgeward serve` on free ports."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._log = folder / "coordinator.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, port: int = 0, device_port: int = 0) -> None:
        """Start, and wait until it answers."""
        ports = ["--port", str(port), "--device-port", str(device_port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [EDGEWARD, "serve", "--data-dir", self.data_dir, "--host", "127.0.0.1", *ports],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._has_ended or self._server_file.exists(), within_s=60, what="the coordinator is up")
        assert not self._has_ended, self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it.

        Returns:
            Its exit code.
        """
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    @property
    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def _server_file(self) -> Path:
        return self.data_dir / "server.json"

    @property
    def endpoints(self) -> dict[str, Any]:
        """What it wrote into its data folder."""
        endpoints: dict[str, Any] = json.loads(self._server_file.read_text())
        return endpoints

    @property
    def address(self) -> str:
        """For tokens."""
        return f"127.0.0.1:{self.endpoints['port']}"

    @property
    def device_address(self) -> str:
        """For certificates."""
        return f"127.0.0.1:{self.endpoints['device_port']}"

    @property
    def first_token(self) -> str:
        """As it was printed once."""
        match = re.search(r"ewt_\S+", self._log.read_text())
        assert match is not None
        return match[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


class Operator:
    """Somebody with a configuration folder who types commands."""

    def __init__(self, config_folder: Path) -> None:
        self.config_folder = config_folder

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Result:
        """Run one command in this process."""
        out, err = io.StringIO(), io.StringIO()
        environment = {**os.environ, "EDGEWARD_CONFIG_DIR": str(self.config_folder)}
        with redirect_stdout(out), redirect_stderr(err), patch("sys.stdin", io.StringIO(stdin)):
            code = run([str(argument) for argument in arguments], environment)
        return Result(code=code, out=out.getvalue(), err=err.getvalue())

    def document(self, *arguments: str | Path) -> Any:
        """Run one command that must succeed, for its JSON."""
        result = self(*arguments, "--json")
        assert result.code == 0, result.err
        return result.document


@pytest.fixture(scope="session")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """One for all tests that only add to it."""
    coordinator = Coordinator(tmp_path_factory.mktemp("coordinator"))
    coordinator.start()
    yield coordinator
    assert coordinator.stop() == 0


@pytest.fixture
def stranger(tmp_path: Path) -> Operator:
    """Not logged in anywhere."""
    return Operator(tmp_path / "config")


@pytest.fixture
def admin(stranger: Operator, coordinator: Coordinator) -> Operator:
    """Logged in as the first admin."""
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    result = stranger("login", coordinator.address, "--token", coordinator.first_token, "--ca-fingerprint", fingerprint)
    assert result.code == 0, result.err
    return stranger
