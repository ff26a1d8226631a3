"""What a file from elsewhere must pass before it becomes a flavor.

It is opened and run in a process of its own, because some public models crash
their runtime. What the runtime then says of it (signature, precision) is
believed, what its sender says is not. A golden set of the sender must fit the
signature and hold on the coordinator's runtime.

Where none was sent, one is made: seeded random inputs and what the
coordinator's runtime gave for them. Such a set proves that a device computes
what the coordinator computed, not that the model is right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import TOLERANCES, GoldenSet, compare_with_golden, decode_golden
from edgeward.protocol.model import Signature, TensorSpec, detect_format
from edgeward_compression.runtimes import ProbeError, ProbeResult, probe_model
from edgeward_coordinator.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Format, Precision
    from edgeward.protocol.tensors import Array

_SEED: Final = 20260101
_HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedModel:
    """A model that opened, ran, and agreed with its golden set."""

    format: Format
    precision: Precision
    signature: Signature
    golden: GoldenSet


def examine_model(path: Path, *, claimed_format: Format | None, golden: bytes | None) -> ExaminedModel:
    """Open and run a model that nobody vouches for.

    Args:
        path: The file.
        claimed_format: What its sender says it is; None leaves it to the bytes.
        golden: The sender's golden set as npz; None has one made.

    Returns:
        What is now known of it.

    Raises:
        InvalidArgument: It is no model, can't be run here, or contradicts its golden set; the message says which.
    """
    form = _tell_format(path, claimed_format)
    result, agreed = _make_golden(path, form) if golden is None else _verify_golden(path, form, golden)
    return ExaminedModel(format=form, precision=result.precision, signature=result.signature, golden=agreed)


def seeded_inputs(signature: Signature) -> dict[str, Array]:
    """Inputs that fit a signature, the same at every call; a dynamic axis gets length 1.

    Floats are in [0, 1), 8-bit integers cover their range (they are quantized
    values), wider integers are 0 or 1 (they are often indices).

    >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
    >>> seeded_inputs(Signature(inputs=(spec,), outputs=()))["x"].shape
    (1, 2)
    """
    rng = np.random.default_rng(_SEED)
    return {spec.name: _seeded_array(spec, rng) for spec in signature.inputs}


def _seeded_array(spec: TensorSpec, rng: np.random.Generator) -> Array:
    shape = tuple(1 if axis is None else axis for axis in spec.shape)
    dtype: np.dtype[Any] = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, size=shape, endpoint=True).astype(dtype)
    return rng.integers(0, 2, size=shape).astype(dtype)


def _tell_format(path: Path, claimed: Format | None) -> Format:
    with path.open("rb") as file:
        told = detect_format(file.read(_HEAD_BYTES))
    if claimed == "arrays" or (told is None and claimed is None):
        raise InvalidArgument(
            "the file is no model that a device could run", hint="push an ONNX (.onnx) or a TFLite (.tflite) file"
        )
    if told is not None and claimed not in (None, told):
        raise InvalidArgument(f"the file is said to be {claimed} and is {told}", hint="leave the format out")
    return told or claimed  # type: ignore[return-value]  # one of them is not None


def _probe(path: Path, form: Format, golden: GoldenSet | None) -> ProbeResult:
    try:
        return probe_model(path, format=form, golden=golden)
    except ProbeError as error:
        fits = "" if golden is None else ", and that the golden set belongs to it"
        raise InvalidArgument(
            f"the {form} model was refused: {error}",
            hint=f"check that the file is whole and was made for this runtime{fits}",
        ) from error
    except OSError as error:
        raise Unavailable(f"no process to try the model in could be started: {error}") from error


def _make_golden(path: Path, form: Format) -> tuple[ProbeResult, GoldenSet]:
    first = _probe(path, form, None)
    made = GoldenSet(
        inputs=seeded_inputs(first.signature), outputs=first.outputs, tolerance=TOLERANCES[first.precision]
    )
    try:
        return first, replace(made, outputs=_probe(path, form, made).outputs)
    except InvalidArgument as error:
        hint = "push it with a golden set (--golden) of inputs that it takes"
        raise InvalidArgument(f"on random inputs {error.message}", hint=hint) from error


def _verify_golden(path: Path, form: Format, encoded: bytes) -> tuple[ProbeResult, GoldenSet]:
    result = _probe(path, form, _decode(encoded, TOLERANCES["fp32"]))
    # Only now is it known which tolerance suits the model, where the set does not say.
    golden = _decode(encoded, TOLERANCES[result.precision])
    problem = compare_with_golden(golden, result.outputs).problem
    if problem:
        raise InvalidArgument(
            f"the model contradicts its golden set: {problem}",
            hint="give the set that belongs to this file, or a wider 'tolerance' in it",
        )
    return result, golden


def _decode(encoded: bytes, default_tolerance: float) -> GoldenSet:
    try:
        return decode_golden(encoded, default_tolerance=default_tolerance)
    except WireError as error:
        raise InvalidArgument(
            f"the golden set can't be read: {error}",
            hint="make it with numpy.savez, of arrays input.NAME and output.NAME",
        ) from error
