"""What a made artifact is worth: accuracy on held-out data, latency, and its golden set.

Through the same `runtimes` that a device has, so what is measured is what serves.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.golden import TOLERANCES, GoldenSet
from edgeward_compression.models.onnx_export import INPUT, OUTPUT

if TYPE_CHECKING:
    from edgeward.protocol.model import Precision
    from edgeward.protocol.tensors import Array
    from edgeward_compression.runtimes import LoadedModel

GOLDEN_EXAMPLES = 8

_BATCH = 256
_WARM_UP_CALLS = 10
_MEASURED_CALLS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """`examples` and `accuracy` are 0 where the labels are no classes; `latency_p50_s`: one row a call, one thread."""

    examples: int
    accuracy: float
    latency_p50_s: float
    runtime: str


def evaluate_model(model: LoadedModel, inputs: Array, labels: Array) -> Evaluation:
    """Run a model over held-out examples."""
    batches = [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]
    outputs = np.concatenate([model.predict({INPUT: batch})[OUTPUT] for batch in batches])
    accuracy = accuracy_of(outputs, labels)
    return Evaluation(
        examples=0 if accuracy is None else len(inputs),
        accuracy=accuracy or 0.0,
        latency_p50_s=_latency_p50_s(model, inputs),
        runtime=f"{model.runtime_name} {model.runtime_version}",
    )


def accuracy_of(outputs: Array, labels: Array) -> float | None:
    """The share of rows whose largest output is at the label; None where the labels are no classes.

    >>> accuracy_of(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    0.5
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    return float((outputs.argmax(axis=1) == labels).mean())


def make_golden(model: LoadedModel, inputs: Array, precision: Precision) -> GoldenSet:
    """The first inputs with what this very artifact makes of them."""
    golden_inputs = {INPUT: inputs[:GOLDEN_EXAMPLES]}
    return GoldenSet(inputs=golden_inputs, outputs=model.predict(golden_inputs), tolerance=TOLERANCES[precision])


def _latency_p50_s(model: LoadedModel, inputs: Array) -> float:
    durations: list[float] = []
    for call in range(_WARM_UP_CALLS + _MEASURED_CALLS):
        row = {INPUT: inputs[call % len(inputs)][None]}
        start = time.perf_counter()
        model.predict(row)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[_WARM_UP_CALLS:])
