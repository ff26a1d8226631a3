"""Users of devices: they ask y = 2x all the time, and tell the device afterwards whether the answer was right."""

from __future__ import annotations

from collections import Counter
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import numpy as np

from edgeward_agent.errors import AgentError
from edgeward_agent.serving import Agent
from tests.integration.models import X

if TYPE_CHECKING:
    from types import TracebackType

    from edgeward.protocol.tensors import Array
    from tests.integration.processes import Device

_PAUSE_S = 0.02


class Users:
    """A thread for each of these devices, in this process.

    Args:
        devices: Each serves something by now.
        inputs: What is asked.
        model: Whom they ask.
    """

    def __init__(self, *devices: Device, inputs: Array = X, model: str = "scale") -> None:
        self._inputs = inputs
        self._model = model
        self._stopped = Event()
        self._agents = {device.name: Agent(device.state_dir, look_every_s=0.1, flush_every_s=0.3) for device in devices}
        self._threads = [Thread(target=self._ask, args=(name,), name=f"users of {name}") for name in self._agents]
        self.answered: dict[str, Counter[int]] = {name: Counter() for name in self._agents}
        self.dropped: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for agent in self._agents.values():
            agent.close()

    def served(self, version: int) -> set[str]:
        """The devices of which any answer was of that version."""
        return {name for name, answered in self.answered.items() if answered[version]}

    def _ask(self, name: str) -> None:
        agent, truth = self._agents[name], self._inputs * 2
        while not self._stopped.wait(_PAUSE_S):
            try:
                answer = agent.answer(self._model, self._inputs)
            except AgentError:
                self.dropped[name] += 1
                continue
            self.answered[name][answer.version] += 1
            right = int(np.allclose(answer.outputs["y"], truth))
            agent.feedback(self._model, version=answer.version, labelled=1, correct=right, flavor=answer.flavor)
