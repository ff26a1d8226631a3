"""Train the base and fine-tune it in several ways, in a process of its own.

`python -m benchmarks.patches.training OUT`. Writes an npz of the state dict for each:
OUT/base.npz and OUT/<name of the change>.npz.
"""

from __future__ import annotations

import copy
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgeward.protocol.tensors import encode_tensors

if TYPE_CHECKING:
    from edgeward.protocol.tensors import Array

APP = Path(__file__).parent / "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train; `only` names the part of the model that moves."""

    optimizer: str
    learning_rate: float
    epochs: int
    only: str = ""
    batch_size: int = 32


BASE = Training(optimizer="SGD", learning_rate=0.1, epochs=30)
CHANGES = {
    "last layer, SGD": Training(optimizer="SGD", learning_rate=0.01, epochs=3, only="last"),
    "all weights, SGD 0.001": Training(optimizer="SGD", learning_rate=0.001, epochs=3),
    "all weights, SGD 0.01": Training(optimizer="SGD", learning_rate=0.01, epochs=3),
    "all weights, Adam 0.0001": Training(optimizer="Adam", learning_rate=0.0001, epochs=3),
}


def main() -> None:
    """Train them all."""
    sys.path.insert(0, str(APP))
    task = importlib.import_module("wide.task")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    first, second, _ = task.parts()
    net = task.Net()
    _train(net, first, BASE)
    _save(net, "base")
    for name, training in CHANGES.items():
        changed = copy.deepcopy(net)
        _train(changed, second, training)
        _save(changed, name)


def _train(net: Any, data: tuple[Array, Array], training: Training) -> None:  # noqa: ANN401 - torch is untyped here
    x, y = map(torch.from_numpy, data)
    moved = [weights for name, weights in net.named_parameters() if name.startswith(training.only)]
    optimizer = getattr(torch.optim, training.optimizer)(moved, lr=training.learning_rate)
    loss_of = torch.nn.CrossEntropyLoss()
    for _ in range(training.epochs):
        for batch in torch.randperm(len(x)).split(training.batch_size):
            net.zero_grad()
            loss_of(net(x[batch]), y[batch]).backward()
            optimizer.step()


def _save(net: Any, name: str) -> None:  # noqa: ANN401 - torch is untyped here
    arrays = {key: value.numpy() for key, value in net.state_dict().items()}
    (Path(sys.argv[1]) / f"{name}.npz").write_bytes(encode_tensors(arrays))


if __name__ == "__main__":
    main()
