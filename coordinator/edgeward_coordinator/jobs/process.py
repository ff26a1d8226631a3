"""The process of a job: started low, listened to, and gone with everything it started when we are done with it.

It gets no more of the environment than it needs, for it runs code of a bundle:
credentials of the coordinator stay here. Its temporary files go into the job's
folder. If the coordinator is killed, the process ends at its next word, which
nobody reads.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

_NICENESS: Final = 10
_MAX_LINE_BYTES: Final = 4 << 20
_HANDED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
)


@asynccontextmanager
async def start_process(command: Sequence[str], *, folder: Path, log: IO[bytes]) -> AsyncIterator[Process]:
    """Start `command` in `folder`, its stderr into `log`; on leaving its whole process group is killed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=_environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        limit=_MAX_LINE_BYTES,
    )
    try:
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PGRP, process.pid, _NICENESS)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def read_lines(process: Process, *, log: IO[bytes]) -> AsyncIterator[bytes]:
    """What the process says, line by line, copied into `log`; a line beyond all measure is left out."""
    if process.stdout is None:
        return
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            log.write(b"(a line of more than %d bytes)\n" % _MAX_LINE_BYTES)
            continue
        if not line:
            return
        log.write(line)
        yield line


def describe_end(returncode: int) -> str:
    """How a process ended that did not end well."""
    if returncode == -signal.SIGKILL:
        return "its process was killed (SIGKILL); too little memory is one cause"
    if returncode < 0:
        return f"its process crashed ({signal.strsignal(-returncode) or f'signal {-returncode}'})"
    return f"its process ended with status {returncode}"


def _environment(folder: Path) -> dict[str, str]:
    # Handed on, not read: nothing here depends on what is in it.
    return {name: os.environ[name] for name in _HANDED_ON if name in os.environ} | {"TMPDIR": str(folder)}
