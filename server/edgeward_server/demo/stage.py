"""What every act of the demo uses: its folder, its processes, the command lines, one line a step with its time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeward_server.client import connected, load_contexts
from edgeward_server.demo.processes import Processes, ProcessGone, running_in, tail_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from edgeward_server.client import Client
    from edgeward_server.terminal.screen import Screen

COORDINATOR: Final = "coordinator"

_MARKER: Final = "this-is-an-edgeward-demo"
_POLL_S: Final = 0.2
_COMMAND_S: Final = 240.0


class DemoFailed(Exception):
    """The demo can't go on; `logs` names the processes whose last words may say why."""

    def __init__(self, message: str, *, logs: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.logs = tuple(logs)


class Stage:
    """One demo's folder and processes.

    Args:
        folder: Emptied, if an earlier demo made it.
        screen: Where it is narrated.
        environment: Of the processes; the configuration folder is added to it.
    """

    def __init__(self, folder: Path, *, screen: Screen, environment: Mapping[str, str]) -> None:
        self.folder = folder.resolve()
        self.screen = screen
        self.config_folder = self.folder / "config"
        self._environment = {**environment, "EDGEWARD_CONFIG_DIR": str(self.config_folder)}
        self._programs = Path(sysconfig.get_path("scripts"))
        self._started = time.monotonic()
        self.processes = Processes(self.folder, environment=self._environment)

    def prepare(self) -> None:
        """Make the folder, empty.

        Raises:
            DemoFailed: It holds something that no demo made, or a demo that still runs.
        """
        if running_in(self.folder):
            raise DemoFailed(
                f"a demo still runs in {self.folder}; end it: edgeward demo --stop --work-dir {self.folder}"
            )
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / _MARKER).exists():
                raise DemoFailed(f"{self.folder} is no folder of an earlier demo; give --work-dir an empty one")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARKER).touch()

    def tell(self, text: str) -> None:
        """One line, with the time since the start."""
        self.screen.say(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    def program(self, name: str) -> Path:
        """An installed command."""
        return self._programs / name

    def edgeward(self, *arguments: str | Path, stdin: str = "") -> Any:  # noqa: ANN401 - whatever the command says in JSON
        """Run the operator's command line for its JSON."""
        output = self.call(self.program("edgeward"), *arguments, stdin=stdin)
        return json.loads(output) if "--json" in arguments else output

    def show_edgeward(self, *arguments: str | Path, may_be_refused: bool = False) -> None:
        """Run the operator's command line in front of the audience; where it may, exit code 1 is an answer too."""
        command = [str(self.program("edgeward")), *map(str, arguments)]
        code = subprocess.run(command, env=self._environment, check=False, timeout=_COMMAND_S).returncode
        if code and not (may_be_refused and code == 1):
            raise DemoFailed(f"{' '.join(command[:4])} … ended with exit code {code}", logs=[COORDINATOR])

    def call(self, program: Path, *arguments: str | Path, stdin: str = "") -> str:
        """Run a command to its end, for what it prints."""
        return self.finish(self.begin(program, *arguments), program, stdin=stdin)

    def begin(self, program: Path, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command whose output `finish` takes."""
        return subprocess.Popen(
            [str(program), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def finish(self, process: subprocess.Popen[str], program: Path, *, stdin: str = "") -> str:
        """Wait for a command.

        Raises:
            DemoFailed: With what it wrote to stderr.
        """
        try:
            out, err = process.communicate(stdin, timeout=_COMMAND_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise DemoFailed(f"{program.name} did not end within {_COMMAND_S:.0f} s") from error
        if process.returncode:
            raise DemoFailed(f"{program.name} ended with exit code {process.returncode}: {err.strip()}")
        return out

    def connect(self) -> AbstractContextManager[Client]:
        """A client, as the operator who logged in."""
        return connected(load_contexts(self.config_folder).pick())

    def wait_for(self, what: str, is_so: Callable[[], object], *, within_s: float, logs: Sequence[str] = ()) -> None:
        """Ask again until it is so, while every process runs.

        Raises:
            DemoFailed: It never was, or a process ended.
        """
        deadline = time.monotonic() + within_s
        while not is_so():
            try:
                self.processes.verify_running()
            except ProcessGone as error:
                raise DemoFailed(str(error), logs=[error.name]) from error
            if time.monotonic() > deadline:
                raise DemoFailed(f"not within {within_s:.0f} s: {what}", logs=logs)
            time.sleep(_POLL_S)

    def show_tails(self, names: Sequence[str]) -> None:
        """The last words of some processes."""
        for name in names:
            log = self.processes.log_of(name)
            self.screen.note(f"--- the end of {os.path.relpath(log)}\n{tail_of(log)}")
