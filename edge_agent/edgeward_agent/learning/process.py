"""The worker as the agent sees it: a process of the training code's own, limited, and gone with all that it started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from edgeward_agent.learning.folders import RunFiles

_MODULE: Final = "edgeward_agent.learning.worker"
_WORDS_KEPT: Final = 4096
_WORDS_TOLD: Final = 500
_POLL_S: Final = 0.5
_HANDED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TZ")


class WorkerDied(Exception):
    """The worker's process ended in the middle of its work; the text says how."""


class MessageUnreadable(Exception):
    """What the coordinator sent is no message, so that not even an error can be replied to it."""


class Worker:
    """One life of a run's worker. Make it with `start`, and `end` it whatever happens.

    Args:
        process: Just started.
        run: The run's files.
    """

    def __init__(self, process: Process, run: RunFiles) -> None:
        self._process = process
        self._run = run
        self._words = bytearray()
        self._listening = asyncio.create_task(self._listen(), name=f"worker {process.pid}: words")

    @classmethod
    async def start(cls, app: Path, run: RunFiles, *, memory_bytes: int | None = None) -> Worker:
        """Start a process for the code in `app`. -P: what it saves must not be taken for a module."""
        limit = [] if memory_bytes is None else ["--memory-bytes", str(memory_bytes)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            _MODULE,
            "--app",
            str(app),
            "--run-dir",
            str(run.path),
            *limit,
            cwd=run.home,
            env=_environment(run),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process, run)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked something."""
        return self._process.returncode is None

    async def answer(self, message_id: str) -> None:
        """Have the training code answer a message; the reply is then durable in the run's files.

        Raises:
            WorkerDied: The process ended instead.
            MessageUnreadable: The message is none.
        """
        await self._ask({"do": "answer", "message": message_id})

    async def fail(self, message_id: str, reason: str) -> None:
        """Have an error written as the reply.

        Raises:
            WorkerDied: The process ended instead.
            MessageUnreadable: The message is none.
        """
        await self._ask({"do": "fail", "message": message_id, "reason": reason})

    async def end(self) -> None:
        """Kill it, and all that it started; idempotent."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def _ask(self, request: dict[str, Any]) -> None:
        writer = self._process.stdin
        with suppress(ConnectionError):
            if writer is not None:
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
        line = await self._read_line()
        if not line:
            raise WorkerDied(await self._last_words())
        problem = json.loads(line)["problem"]
        if problem:
            raise MessageUnreadable(problem)

    async def _read_line(self) -> bytes:
        """Its answer; nothing once it has ended, even if what the code forked still holds the pipe open."""
        reader = self._process.stdout
        if reader is None:
            return b""
        reading = asyncio.create_task(reader.readline(), name=f"worker {self._process.pid}: answer")
        try:
            while self.is_alive and not reading.done():
                await asyncio.wait([reading], timeout=_POLL_S)
            await asyncio.wait([reading], timeout=_POLL_S)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _last_words(self) -> str:
        with suppress(TimeoutError):
            # It may have said that it ends and be about to: then how it ended is what has to be told.
            await asyncio.wait_for(self._process.wait(), _POLL_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what is left of its group holds the pipes
        status = await self._process.wait()
        await asyncio.wait([self._listening], timeout=1)
        words = self._words.decode(errors="replace").strip()[-_WORDS_TOLD:]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the training code's process {how}" + (f": {words}" if words else "")

    async def _listen(self) -> None:
        """Keep the end of what it prints: a pipe that nobody reads would block it, a file could fill the disk."""
        reader = self._process.stderr
        while reader is not None and (data := await reader.read(_WORDS_KEPT)):
            self._words += data
            del self._words[:-_WORDS_KEPT]


def _environment(run: RunFiles) -> dict[str, str]:
    """No more than it needs: the code is not ours."""
    # Handed on, not read: nothing here depends on what is in it.
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return handed_on | {
        "HOME": str(run.home),
        "TMPDIR": str(run.temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "FLWR_HOME": str(run.home / ".flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
