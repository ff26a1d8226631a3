"""Real models with their golden sets, ready to be deployed by the simulated coordinator."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.golden import GoldenSet, encode_golden
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward.protocol.state import DesiredModel, ProbationRules
from tests.tiny_models import WIDTH, write_onnx_scale, write_tflite_scale

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.simulator import SimulatedCoordinator

NO_PROBATION = ProbationRules(duration=timedelta(0))

X = np.arange(2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)


def scale_model(
    coordinator: SimulatedCoordinator,
    folder: Path,
    *,
    model: str = "scale",
    version: int = 1,
    factor: float = 2.0,
    golden_factor: float | None = None,
    formats: tuple[str, ...] = ("onnx",),
    probation: ProbationRules = NO_PROBATION,
    release: int = 0,
) -> DesiredModel:
    """A version of y = factor * x that the coordinator offers; another `golden_factor` makes its golden set wrong."""
    expected = factor if golden_factor is None else golden_factor
    golden = encode_golden(GoldenSet(inputs={"x": X}, outputs={"y": X * np.float32(expected)}, tolerance=1e-3))
    flavors = tuple(_flavor(coordinator, folder, name, factor, golden) for name in formats)
    return DesiredModel(model=model, version=version, flavors=flavors, release=release, probation=probation)


def _flavor(coordinator: SimulatedCoordinator, folder: Path, name: str, factor: float, golden: bytes) -> Flavor:
    write = write_onnx_scale if name == "onnx" else write_tflite_scale
    data = write(folder / f"{name}-{factor}", factor=factor).read_bytes()
    batch = None if name == "onnx" else 1
    spec = TensorSpec(name="x", dtype="float32", shape=(batch, WIDTH))
    return Flavor(
        name=f"{name}-fp32",
        format="onnx" if name == "onnx" else "tflite",
        precision="fp32",
        digest=coordinator.publish(data),
        total_bytes=len(data),
        golden_digest=coordinator.publish(golden),
        golden_bytes=len(golden),
        signature=Signature(inputs=(spec,), outputs=(TensorSpec(name="y", dtype="float32", shape=(batch, WIDTH)),)),
    )
