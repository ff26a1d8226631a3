"""A device's users, in a process of their own: they ask all the time, and say afterwards whether the answer was right.

python -m edgeward_server.demo.traffic STATE_DIR MODEL HELD_OUT.npz OUT.json

Every request is counted: what was answered by which version, how much of it was
right, and what was not answered. Until SIGTERM; then OUT.json is written.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeward.durable import write_atomic
from edgeward_agent.errors import AgentError
from edgeward_agent.serving import Agent

if TYPE_CHECKING:
    from edgeward.protocol.tensors import Array

_ROWS: Final = 4
_PAUSE_S: Final = 0.04


class Users:
    """They know the truth about what they ask.

    Args:
        agent: Of their device.
        model: Whom they ask.
        inputs: What they ask, a row each.
        labels: What is right.
        seed: Of which rows are asked.
    """

    def __init__(self, agent: Agent, model: str, inputs: Array, labels: Array, *, seed: int) -> None:
        self._agent = agent
        self._model = model
        self._inputs = inputs
        self._labels = labels
        self._rng = np.random.default_rng(seed)
        self._requests = 0
        self._dropped: Counter[str] = Counter()
        self._answered: Counter[int] = Counter()
        self._right: Counter[int] = Counter()

    def ask(self) -> None:
        """One request, counted whatever comes of it."""
        rows = self._rng.integers(0, len(self._labels), _ROWS)
        self._requests += 1
        try:
            answer = self._agent.answer(self._model, self._inputs[rows])
        except AgentError as error:
            self._dropped[type(error).__name__] += 1
            return
        scores = next(iter(answer.outputs.values()))
        right = int((scores.argmax(axis=-1) == self._labels[rows]).sum())
        self._answered[answer.version] += _ROWS
        self._right[answer.version] += right
        self._agent.feedback(self._model, version=answer.version, labelled=_ROWS, correct=right, flavor=answer.flavor)

    def account(self) -> dict[str, object]:
        """All that was counted."""
        return {
            "requests": self._requests,
            "dropped": dict(self._dropped),
            "answered": {str(version): count for version, count in self._answered.items()},
            "right": {str(version): count for version, count in self._right.items()},
        }


def main() -> None:
    """Ask until told to stop."""
    state_dir, model, held_out, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with np.load(held_out, allow_pickle=False) as arrays:
        inputs, labels = arrays["x"], arrays["y"]
    with Agent(state_dir, flush_every_s=1) as agent:
        users = Users(agent, model, inputs, labels, seed=sum(state_dir.name.encode()))
        while not stopped.wait(_PAUSE_S):
            users.ask()
    write_atomic(out, json.dumps(users.account()).encode())


if __name__ == "__main__":
    main()
