"""The worker: `python -m edgeward_agent.learning.worker --app DIR --run-dir DIR`.

Requests come as JSON lines on standard input and are answered on standard
output, `{"problem": ""}`; messages and replies are files. Both pipes are moved
away before any of the training code runs, so that what it prints is no answer.
When the agent is gone, the worker kills itself and all that it started.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeward_agent.learning.folders import RunFiles
from edgeward_agent.learning.worker_app import ClientAppHost, UnreadableMessage, error_reply

if TYPE_CHECKING:
    from collections.abc import Callable

_NICENESS = 10


class Desk:
    """Answers requests.

    Args:
        host: The app.
        run: The run's files.
    """

    def __init__(self, host: ClientAppHost, run: RunFiles) -> None:
        self._host = host
        self._run = run

    def handle(self, request: dict[str, Any]) -> dict[str, str]:
        """Write the reply to one message; says what was wrong with the message, if something was."""
        message_id = str(request["message"])
        data = self._run.message(message_id).read_bytes()
        try:
            if request["do"] == "fail":
                self._run.write_reply(message_id, error_reply(data, str(request["reason"])), None)
            else:
                state = self._run.state.read_bytes() if self._run.state.exists() else None
                answer = self._host.answer(data, state)
                self._run.write_reply(message_id, answer.reply, answer.state)
        except UnreadableMessage as error:
            return {"problem": str(error)}
        return {"problem": ""}


def main() -> None:
    """Answer until the agent is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--memory-bytes", type=int)
    arguments = parser.parse_args()
    reader, writer = _take_over_pipes()
    _limit(arguments.memory_bytes)
    run = RunFiles(arguments.run_dir)
    settings = run.settings()
    host = ClientAppHost(arguments.app, run_config=settings["run_config"], node_config=settings["node_config"])
    desk = Desk(host, run)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(reader, requests.put), name="requests", daemon=True).start()
    while True:
        answer = desk.handle(json.loads(requests.get()))
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.flush()


def _listen(reader: BinaryIO, take: Callable[[bytes], None]) -> None:
    """In a thread, so that the end of the agent is noticed while the app computes."""
    for line in reader:
        take(line)
    os.killpg(os.getpid(), signal.SIGKILL)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return reader, writer


def _limit(memory_bytes: int | None) -> None:
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    main()
