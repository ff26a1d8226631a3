"""The digits app over a Grid without a network: `python digits_in_one_process.py APP_DIR ROUNDS DEVICES`.

A process of its own, because Flower's imports and its process-wide task identity
do not belong in the tests'. Runs in the current folder, where the app saves its
model. Prints as JSON the model's held-out accuracy, and whether a device that
trains on the same message twice gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable


class InProcessGrid(Grid):
    """Every message is answered at once; only what `Strategy.start` calls is there."""

    def __init__(self, client_app: Any, contexts: dict[int, Context]) -> None:
        self._client_app = client_app
        self._contexts = contexts
        self.run_twice: list[bool] = []

    def get_node_ids(self) -> list[int]:
        """All devices."""
        return list(self._contexts)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """The replies, in the order of the messages."""
        del timeout
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        reply = self._client_app(message, context)
        if "arrays" in reply.content and not self.run_twice:
            self.run_twice.append(_arrays(reply) == _arrays(self._client_app(message, context)))
        return reply

    run: Any = None
    set_run: Any = None
    create_message: Any = None
    push_messages: Any = None
    pull_messages: Any = None


def main(app_folder: Path, rounds: int, devices: int) -> None:
    """Run the app's own ServerApp and ClientApp."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    sys.path.insert(0, str(app_folder))
    from digits.client_app import app as client_app
    from digits.server_app import app as server_app
    from digits.task import Net, evaluate, held_out

    run_config = tomllib.loads((app_folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    run_config["num-server-rounds"] = rounds

    def context_of(node: int) -> Context:
        node_config = {"partition-id": node - 1, "num-partitions": devices}
        return Context(run_id=1, node_id=node, node_config=node_config, state=RecordDict(), run_config=run_config)

    grid = InProcessGrid(client_app, {node: context_of(node) for node in range(1, devices + 1)})
    server_app(grid, context_of(0))
    net = Net()
    net.load_state_dict(torch.load("final_model.pt", weights_only=True))
    sys.stdout.write(json.dumps({"accuracy": evaluate(net, *held_out())[1], "repeatable": grid.run_twice}))


def _arrays(reply: Message) -> list[bytes]:
    return [array.tobytes() for array in reply.content["arrays"].to_numpy_ndarrays()]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
