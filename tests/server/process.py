"""The coordinator as a process of its own, to be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_MAIN = """
import sys
from pathlib import Path
from edgeward_server.config import ServerConfig
from edgeward_server.serve import serve
serve(ServerConfig(data_dir=Path(sys.argv[1]), host="127.0.0.1", port=0, device_port=0, log_format="json"))
"""


class ServerProcess:
    """`serve` on a data folder; what it prints goes to files beside the folder."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.stdout = data_dir.with_suffix(".stdout")
        self.stderr = data_dir.with_suffix(".stderr")

    def __enter__(self) -> Self:
        (self.data_dir / "server.json").unlink(missing_ok=True)  # a killed process leaves its own
        with self.stdout.open("w") as out, self.stderr.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(self.data_dir)], stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        wait_until(lambda: self._process.poll() is not None or self._is_ready(), within_s=60, what="ready")
        assert self._process.poll() is None, self.stderr.read_text()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process.poll() is None:
            self.kill()

    @property
    def endpoints(self) -> dict[str, Any]:
        """What `server.json` says."""
        found: dict[str, Any] = json.loads((self.data_dir / "server.json").read_text())
        return found

    def kill(self) -> None:
        """Without any warning."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """As an operator does; the exit status."""
        self._process.send_signal(number)
        return self._process.wait(60)

    def _is_ready(self) -> bool:
        return "Edgeward is ready" in self.stdout.read_text()
