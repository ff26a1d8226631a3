"""The model, and the data in two halves: one to learn from, one to be fine-tuned on later.

The images are scikit-learn's 1,797 handwritten digits (8x8, from UCI), scaled to 0..1.
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

SEED = 2026
CALIBRATION_IMAGES = 128


class Net(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Two convolutions and three dense layers, 999,630 parameters; [N, 1, 8, 8] to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4 * 4, 900), nn.ReLU(), nn.Linear(900, 64), nn.ReLU()
        )
        self.last = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of each image."""
        logits: torch.Tensor = self.last(self.classifier(self.features(images)))
        return logits


@cache
def parts() -> tuple[tuple[Floats, Integers], ...]:
    """Images and labels: to learn from first, to be fine-tuned on, to be tested with."""
    images, labels = load_digits(return_X_y=True)
    scaled, labels = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)
    first, rest = train_test_split(np.arange(len(labels)), train_size=0.4, stratify=labels, random_state=SEED)
    second, third = train_test_split(rest, train_size=0.65, stratify=labels[rest], random_state=SEED)
    return tuple((scaled[part], labels[part]) for part in (first, second, third))


def held_out() -> tuple[Floats, Integers]:
    """What no training saw."""
    return parts()[2]


def calibration_inputs() -> Floats:
    """Images that show the range of what the model will see."""
    return parts()[0][0][:CALIBRATION_IMAGES]


def example_input() -> Floats:
    """A batch of one."""
    return calibration_inputs()[:1]
