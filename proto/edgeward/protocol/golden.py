"""Golden sets: a few inputs with the expected outputs and the tolerance, shipped with each artifact.

A device runs its own runtime on the inputs before a model may serve. The
distance is the largest absolute difference over an output, relative to the
spread (max - min) of the expected output: independent of scale, and one wrong
element is enough to refuse. As bytes: npz with `input.<name>`, `output.<name>`
and optionally `tolerance` (a scalar).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.errors import WireError
from edgeward.protocol.tensors import Array, decode_tensors, encode_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.model import Precision, Signature

# Relative to the spread of an output. Integer kernels may round differently on
# another CPU (int8 steps are 1/255 of the range); float kernels only reorder sums.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int16": 1e-2, "int8": 0.1, "mixed": 0.1}

_INPUT, _OUTPUT, _TOLERANCE = "input.", "output.", "tolerance"
_NUMERIC_KINDS = "biuf"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """Inputs and expected outputs by tensor name; all share the leading axis only where the model has one."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenReport:
    """The distance of each output; `problem` is empty where all are within the tolerance."""

    distances: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the model may serve."""
        return not self.problem


def encode_golden(golden: GoldenSet) -> bytes:
    """To npz bytes."""
    tensors: dict[str, Array] = {f"{_INPUT}{name}": array for name, array in golden.inputs.items()}
    tensors |= {f"{_OUTPUT}{name}": array for name, array in golden.outputs.items()}
    return encode_tensors(tensors | {_TOLERANCE: np.array(golden.tolerance)})


def decode_golden(data: bytes, *, default_tolerance: float = TOLERANCES["fp32"]) -> GoldenSet:
    """From npz bytes.

    Raises:
        WireError: Not npz, no inputs, no outputs, outputs that are no numbers, an unknown key, or a tolerance that
            is no positive number.
    """
    tensors = decode_tensors(data, max_bytes=_MAX_BYTES)
    tolerance = tensors.pop(_TOLERANCE, np.array(default_tolerance))
    inputs = {name.removeprefix(_INPUT): array for name, array in tensors.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): array for name, array in tensors.items() if name.startswith(_OUTPUT)}
    unknown = [name for name in tensors if not name.startswith((_INPUT, _OUTPUT))]
    if unknown:
        raise WireError(f"a golden set has arrays named 'input.NAME' and 'output.NAME', not {sorted(unknown)[:5]}")
    if not inputs or not outputs:
        raise WireError("a golden set needs at least one 'input.NAME' and one 'output.NAME' array")
    for name, array in outputs.items():
        if array.dtype.kind not in _NUMERIC_KINDS:
            raise WireError(f"golden output {name[:80]!r} is {array.dtype.name}; only numbers can be compared")
    return GoldenSet(inputs=inputs, outputs=outputs, tolerance=_positive(tolerance))


def compare_with_golden(golden: GoldenSet, actual: Mapping[str, Array]) -> GoldenReport:
    """Measure what a runtime computed against what was expected."""
    distances: dict[str, float] = {}
    for name, expected in golden.outputs.items():
        if name not in actual:
            return GoldenReport(distances=distances, problem=f"the model has no output {name!r}")
        if actual[name].shape != expected.shape:
            problem = f"output {name!r} has shape {list(actual[name].shape)}, expected {list(expected.shape)}"
            return GoldenReport(distances=distances, problem=problem)
        if actual[name].dtype.kind not in _NUMERIC_KINDS:
            problem = f"output {name!r} is {actual[name].dtype.name}, expected {expected.dtype.name}"
            return GoldenReport(distances=distances, problem=problem)
        distances[name] = _distance(expected, actual[name])
    worst = max(distances, key=lambda name: distances[name])
    if distances[worst] <= golden.tolerance:
        return GoldenReport(distances=distances)
    problem = (
        f"output {worst!r} is off by {distances[worst]:.3g} of its range, at most {golden.tolerance:.3g} is allowed"
    )
    return GoldenReport(distances=distances, problem=problem)


def problem_with_golden(golden: GoldenSet, signature: Signature) -> str:
    """Why the set can't belong to a model of this signature, in words; empty where it can."""
    problem = signature.problem_with(golden.inputs)
    if problem:
        return problem
    missing = sorted(set(golden.outputs) - {spec.name for spec in signature.outputs})
    return f"the model has no outputs {missing}" if missing else ""


def _distance(expected: Array, actual: Array) -> float:
    if expected.size == 0:
        return 0.0
    # Wide enough that no difference of two float64 overflows to inf, where inf / inf would pass for no distance.
    want = expected.astype(np.longdouble)
    have = actual.astype(np.longdouble)
    if not (np.isfinite(want).all() and np.isfinite(have).all()):
        # Never nan: it compares false with everything and would pass beside another output.
        return 0.0 if np.array_equal(want, have, equal_nan=True) else float("inf")
    spread = (want.max() - want.min()) or max(abs(want.max()), np.longdouble(1))
    return float(np.abs(want - have).max() / spread)


def _positive(tolerance: Array) -> float:
    if tolerance.size != 1 or tolerance.dtype.kind not in _NUMERIC_KINDS:
        raise WireError("the tolerance of a golden set is a single number")
    value = float(tolerance.item())
    if not 0 < value < float("inf"):
        raise WireError(f"the tolerance of a golden set is above 0, not {value}")
    return value
