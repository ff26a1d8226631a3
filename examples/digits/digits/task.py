"""The model, the data and one device's work, with no word of how the devices are reached.

The images are scikit-learn's 1,797 handwritten digits (8x8, from UCI), scaled to
0..1. A fifth of them, stratified, is held out from every device; the rest is
split over the devices with a Dirichlet distribution for each digit (Hsu, Qi and
Brown 2019, arXiv:1909.06335): the smaller alpha, the more each device sees of a
few digits alone. Everything follows from seeds.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

DATA_SEED = 2026
HELD_OUT_RATIO = 0.2
LOCAL_TEST_RATIO = 0.1
CALIBRATION_IMAGES = 256
SMALLEST_PARTITION = 10


class Net(nn.Module):
    """Two convolutions and two dense layers, 29,914 parameters; [N, 1, 8, 8] to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 48), nn.ReLU(), nn.Linear(48, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of each image."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


@cache
def _split() -> tuple[Floats, Floats, Integers, Integers]:
    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(
        scaled, labels.astype(np.int64), test_size=HELD_OUT_RATIO, stratify=labels, random_state=DATA_SEED
    )
    return tuple(parts)


def held_out() -> tuple[Floats, Integers]:
    """The images and labels that no device ever trains on."""
    _, images, _, labels = _split()
    return images, labels


def calibration_inputs() -> Floats:
    """Images that show the range of what the model will see; none of them held out."""
    return _split()[0][:CALIBRATION_IMAGES]


def example_input() -> Floats:
    """A batch of one."""
    return calibration_inputs()[:1]


def partition(labels: Integers, count: int, alpha: float, seed: int) -> list[Integers]:
    """Split examples over devices.

    Args:
        labels: The digit of each example.
        count: How many devices.
        alpha: Above 0; large makes all devices alike.
        seed: Equal seeds give equal splits.

    Returns:
        The indices of each device's examples; together all of them, each once.

    Raises:
        ValueError: No split leaves every device a handful of examples.
    """
    rng = np.random.default_rng(seed)
    for _ in range(100):
        parts: list[list[Integers]] = [[] for _ in range(count)]
        for digit in np.unique(labels):
            indices = rng.permutation(np.flatnonzero(labels == digit))
            ends = np.cumsum(rng.dirichlet([alpha] * count))[:-1] * len(indices)
            for part, piece in zip(parts, np.split(indices, ends.astype(int)), strict=True):
                part.append(piece)
        joined = [np.concatenate(part) for part in parts]
        if min(map(len, joined)) >= SMALLEST_PARTITION:
            return joined
    raise ValueError(f"no split of {len(labels)} examples over {count} devices with alpha {alpha} leaves each enough")


def load_partition(index: int, count: int, alpha: float, seed: int) -> tuple[Floats, Floats, Integers, Integers]:
    """One device's images and labels: training images, test images, training labels, test labels."""
    images, _, labels, _ = _split()
    mine = partition(labels, count, alpha, seed)[index]
    mine = np.random.default_rng([seed, index]).permutation(mine)
    tested = max(1, round(len(mine) * LOCAL_TEST_RATIO))
    return images[mine[tested:]], images[mine[:tested]], labels[mine[tested:]], labels[mine[:tested]]


def train(
    net: nn.Module,
    images: Floats,
    labels: Integers,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
) -> float:
    """Train in place; the mean loss of the last epoch comes back."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    net.train()
    losses: list[float] = []
    for _ in range(epochs):
        losses = []
        for batch in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            loss = loss_of(net(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
    return sum(losses) / len(x)


def evaluate(net: nn.Module, images: Floats, labels: Integers) -> tuple[float, float]:
    """The mean loss and the accuracy."""
    torch.set_num_threads(1)
    net.eval()
    y = torch.from_numpy(labels)
    with torch.no_grad():
        logits = net(torch.from_numpy(images))
    loss = nn.functional.cross_entropy(logits, y)
    accuracy = (logits.argmax(dim=1) == y).double().mean()
    return loss.item(), accuracy.item()
