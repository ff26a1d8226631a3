"""What a model takes and gives, and the flavors in which a version exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeward.protocol.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.tensors import Array

Format = Literal["onnx", "tflite", "arrays"]
Precision = Literal["fp32", "fp16", "int8", "int16", "mixed"]

FORMATS: tuple[Format, ...] = ("onnx", "tflite", "arrays")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int16", "mixed")

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
    """The inputs and outputs of a model, in its order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def problem_with(self, inputs: Mapping[str, Array]) -> str:
        """Why these inputs can't be given to the model, in words; empty where they can."""
        names = {spec.name for spec in self.inputs}
        if set(inputs) != names:
            return f"the model takes inputs {sorted(names)}, got {sorted(inputs)}"
        for spec in self.inputs:
            problem = spec.problem_with(inputs[spec.name])
            if problem:
                return problem
        return ""


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
