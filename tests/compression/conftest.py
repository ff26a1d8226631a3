"""A small app to compress, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.tensors import encode_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.tensors import Array

PYPROJECT = """
[project]
name = "{package}"

[tool.edgeward.model]
name = "stripes"
module = "{package}.task:Net"
example = "{package}.task:example"
calibration = "{package}.task:calibration"
held_out = "{package}.task:held_out"
"""

# Tells horizontal from vertical stripes. It has what converters trip over: batch normalisation, a few outliers in the
# calibration data, and words on stdout.
TASK = """
import os
import numpy as np
import torch
from torch import nn

print("hello from the app")
os.system("echo hello from a child of the app")

def images(seed, count):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    stripes = np.tile(np.array([0, 1] * 4, np.float32), (8, 1))
    images = np.where(labels[:, None, None] == 1, stripes, stripes.T)[:, None]
    return (images + rng.normal(0, 0.3, images.shape)).astype(np.float32), labels

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 2),
        )
    def forward(self, x):
        return self.body(x)

def example():
    return images(0, 1)[0]

def calibration():
    x = images(1, 64)[0]
    x[:8] *= 5
    return x

def held_out():
    return images(2, 100)
"""


def make_arrays() -> dict[str, Array]:
    """The state dict of the app's Net with the stripes' difference in its filters: right without any training."""
    rng = np.random.default_rng(0)
    stripes = np.tile(np.array([-1, 1, -1], np.float32), (3, 1))
    filters = np.stack([stripes, stripes.T] * 4)[:, None]
    votes = np.zeros((2, 8, 16), np.float32)
    votes[1, 0::2], votes[0, 1::2] = 0.01, 0.01
    return {
        "body.0.weight": filters.astype(np.float32),
        "body.1.weight": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "body.1.bias": rng.uniform(-0.1, 0.1, 8).astype(np.float32),
        "body.1.running_mean": rng.uniform(-0.1, 0.1, 8).astype(np.float32),
        "body.1.running_var": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "body.1.num_batches_tracked": np.array(7),
        "body.5.weight": votes.reshape(2, 128),
        "body.5.bias": np.zeros(2, np.float32),
    }


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an app folder: `make_app(package, task=…, pyproject=…)`; a process imports a package name once."""

    def make(package: str, *, task: str = TASK, pyproject: str = PYPROJECT) -> Path:
        folder = tmp_path_factory.mktemp(package)
        (folder / "pyproject.toml").write_text(pyproject.format(package=package))
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
        (folder / package / "task.py").write_text(task)
        return folder

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """What one run of the command said and left."""

    events: list[dict[str, Any]]
    folder: Path
    returncode: int

    def flavors(self) -> dict[str, dict[str, Any]]:
        """The flavor events by name."""
        return {event["name"]: event for event in self.events if event["event"] == "flavor"}


@pytest.fixture(scope="session")
def run_compress(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Compressed]:
    """Run the command on an app folder: `run_compress(app, flavors, arrays=…)`; its stdout must be events alone."""

    def run(app: Path, flavors: list[str], *, arrays: bytes | None = None) -> Compressed:
        folder = tmp_path_factory.mktemp("compress")
        (folder / "bundle.zip").write_bytes(pack_bundle(app))
        (folder / "arrays.npz").write_bytes(encode_tensors(make_arrays()) if arrays is None else arrays)
        spec = {"bundle": f"{folder}/bundle.zip", "arrays": f"{folder}/arrays.npz", "flavors": flavors, "seed": 3}
        (folder / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "edgeward_compression.models.compress"]
        command += ["--spec", f"{folder}/spec.json", "--out", f"{folder}/out"]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return Compressed(events=events, folder=folder / "out", returncode=done.returncode)

    return run


@pytest.fixture(scope="session")
def compressed(make_app: Callable[..., Path], run_compress: Callable[..., Compressed]) -> Compressed:
    """Every flavor of the small app."""
    return run_compress(make_app("stripes"), ["onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8"])
