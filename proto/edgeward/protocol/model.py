"""What a model takes and gives, and the flavors in which a version exists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.tensors import Array

Format = Literal["onnx", "tflite", "arrays"]
Precision = Literal["fp32", "fp16", "int8", "int16", "mixed"]

FORMATS: tuple[Format, ...] = ("onnx", "tflite", "arrays")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int16", "mixed")

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# At most this many flavors, tensors, axes are believed in a message.
MAX_ITEMS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output. `shape` has None for a dynamic axis; `dtype` is numpy's name."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def problem_with(self, array: Array) -> str:
        """Why `array` can't be this tensor, in words; empty where it can."""
        if array.dtype.name != self.dtype:
            return f"{self.name!r} takes {self.dtype}, got {array.dtype.name}"
        fits = len(array.shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, array.shape, strict=True)
        )
        return "" if fits else f"{self.name!r} takes shape {self.describe_shape()}, got {list(array.shape)}"

    def describe_shape(self) -> str:
        """`[?, 1, 8, 8]`."""
        return "[" + ", ".join("?" if axis is None else str(axis) for axis in self.shape) + "]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The inputs and outputs of a model, in its order.

    A model whose batch is fixed at one row also takes n rows: whoever runs it
    runs it n times and joins the outputs. So one request fits the flavors of a
    version whether or not their batch is dynamic.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def problem_with(self, inputs: Mapping[str, Array]) -> str:
        """Why these inputs can't be given to the model, in words; empty where they can."""
        names = {spec.name for spec in self.inputs}
        if set(inputs) != names:
            return f"the model takes inputs {sorted(names)}, got {sorted(inputs)}"
        for spec in self.inputs:
            array = inputs[spec.name]
            problem = spec.problem_with(array)
            if problem and not (self.row_count(inputs) > 1 and not spec.problem_with(array[:1])):
                return problem
        return ""

    def row_count(self, inputs: Mapping[str, Array]) -> int:
        """How many runs these inputs take: n where each holds n rows and the model takes one at a time, else 1."""
        specs = (*self.inputs, *self.outputs)
        if not self.inputs or any(spec.shape[:1] != (1,) for spec in specs):
            return 1
        counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        return max(counts.pop(), 1) if len(counts) == 1 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """One artifact of a version: `name` is format and precision joined, `onnx-int8`."""

    name: str
    format: Format
    precision: Precision
    digest: Digest
    total_bytes: int
    golden_digest: Digest | None
    golden_bytes: int
    signature: Signature


def signature_to_json(signature: Signature) -> dict[str, list[dict[str, Any]]]:
    """As a value for `json`: `{"inputs": [{"name", "dtype", "shape"}], "outputs": […]}`; a dynamic axis is null."""
    return {"inputs": _tensors_to_json(signature.inputs), "outputs": _tensors_to_json(signature.outputs)}


def signature_from_json(value: object) -> Signature:
    """From the value that `json` read.

    Raises:
        WireError: It is not what `signature_to_json` makes.
    """
    if not isinstance(value, dict) or set(value) != {"inputs", "outputs"}:
        raise WireError("a signature is an object of 'inputs' and 'outputs'")
    return Signature(inputs=_tensors_from_json(value["inputs"]), outputs=_tensors_from_json(value["outputs"]))


def parse_model_name(text: str) -> str:
    """Check that `text` can name a model, hence a folder on each device.

    Raises:
        WireError: It can't.
    """
    if _MODEL_NAME.fullmatch(text) is None:
        raise WireError(
            f"a model name has 1 to 64 letters, digits, '.', '-' or '_' and starts with a letter or digit, "
            f"not {text[:80]!r}"
        )
    return text


def parse_format(text: str) -> Format:
    """Raises `WireError` for what is not a format."""
    for known in FORMATS:
        if text == known:
            return known
    raise WireError(f"unknown model format {text[:40]!r}, known are {', '.join(FORMATS)}")


def parse_precision(text: str) -> Precision:
    """Raises `WireError` for what is not a precision."""
    for known in PRECISIONS:
        if text == known:
            return known
    raise WireError(f"unknown precision {text[:40]!r}, known are {', '.join(PRECISIONS)}")


def detect_format(head: bytes) -> Format | None:
    """Tell ONNX from TFLite by the first bytes.

    TFLite: the FlatBuffers file identifier `TFL3` at offset 4. ONNX has no magic
    number; a ModelProto starts with field 1 (ir_version, varint: byte 0x08) in
    what every exporter writes.

    >>> detect_format(b"    TFL3....")
    'tflite'
    """
    if head[4:8] == b"TFL3":
        return "tflite"
    return "onnx" if head[:1] == b"\x08" else None


def _tensors_to_json(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]


def _tensors_from_json(value: object) -> tuple[TensorSpec, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise WireError(f"the tensors of a signature are a list of at most {MAX_ITEMS}")
    return tuple(_tensor_from_json(item) for item in value)


def _tensor_from_json(value: object) -> TensorSpec:
    if not isinstance(value, dict) or set(value) != {"name", "dtype", "shape"}:
        raise WireError("a tensor of a signature is an object of 'name', 'dtype' and 'shape'")
    name, dtype, shape = value["name"], value["dtype"], value["shape"]
    if not isinstance(name, str) or not isinstance(dtype, str):
        raise WireError("the name and dtype of a tensor are strings")
    if not isinstance(shape, list) or len(shape) > MAX_ITEMS or not all(_is_axis(axis) for axis in shape):
        raise WireError(f"the shape of tensor {name[:80]!r} is not a list of lengths, null where dynamic")
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))


def _is_axis(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)
