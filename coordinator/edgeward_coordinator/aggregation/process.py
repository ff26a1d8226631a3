"""A ServerApp's process as the server sees it: started, spoken to, listened to, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.aggregation.control import ControlLine, Stop, decode_line, encode_line

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from edgeward_coordinator.aggregation.journal import RunFolder
    from edgeward_coordinator.aggregation.records import RunSpec

_MODULE: Final = "edgeward_coordinator.aggregation.serverapp_process"
_STOP_GRACE_S: Final = 5.0
_POLL_S: Final = 0.1
_MAX_LINE_BYTES: Final = 4 << 20
_HANDED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TZ")


class ServerAppProcess:
    """One life of a ServerApp's process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def lines(self) -> AsyncIterator[ControlLine]:
        """What it says, until it has closed its side."""
        reader = self._process.stdout
        while reader is not None and (line := await reader.readline()):
            yield decode_line(line)

    def tell(self, line: ControlLine) -> None:
        """Say something; lost where the process is gone, which is noticed elsewhere."""
        writer = self._process.stdin
        if writer is not None and not writer.is_closing():
            writer.write(encode_line(line))

    def kill_group(self) -> None:
        """Kill it, if it is left, and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Let it end by itself for a moment; leaving `start_process` kills what is left."""
        self.tell(Stop())
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_GRACE_S):
                await self.ended()

    async def ended(self) -> int:
        """Its exit status, below 0 the signal that killed it.

        Looked for, not waited for: what the app forked may hold the pipes open, and asyncio waits for those too.
        """
        while self._process.returncode is None:  # noqa: ASYNC110  asyncio has no event for this alone
            await asyncio.sleep(_POLL_S)
        return self._process.returncode


@asynccontextmanager
async def start_process(folder: RunFolder, spec: RunSpec) -> AsyncIterator[ServerAppProcess]:
    """Start the process of a run; on leaving, its whole group is killed.

    Its session is its own, so a Ctrl-C at the server's terminal does not reach
    it. -P: a file that an app saved must not be taken for a module.
    """
    with folder.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            _MODULE,
            str(folder.path),
            cwd=folder.work,
            env=_environment(folder, spec),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
    started = ServerAppProcess(process)
    try:
        yield started
    finally:
        started.kill_group()
        await process.wait()


def describe_end(status: int) -> str:
    """How a process ended that said nothing."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL; too little memory is one cause)"
    if status < 0:
        return f"crashed ({signal.strsignal(-status) or f'signal {-status}'})"
    return f"ended with status {status}"


def _environment(folder: RunFolder, spec: RunSpec) -> dict[str, str]:
    """No more than it needs: the server's own variables may hold credentials, and the app is not ours."""
    # Handed on, not read: nothing here depends on what is in it.
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return handed_on | {
        "HOME": str(folder.home),
        "TMPDIR": str(folder.home),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": str(spec.seed % 2**32),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "FLWR_HOME": str(folder.home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
