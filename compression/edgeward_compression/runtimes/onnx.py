"""ONNX models in ONNX Runtime, set for small memory on small devices.

One thread, no memory pattern, no arena (what a prediction allocated goes back),
no busy waiting; prepacked weights stay on: that is where the speed is.
"""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING, Any

import onnxruntime

from edgeward.protocol.model import Signature, TensorSpec
from edgeward_compression.runtimes.errors import LoadError, RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.protocol.model import Precision
    from edgeward.protocol.state import RuntimeInfo
    from edgeward.protocol.tensors import Array

_SILENT = 4

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}

_UNKNOWN_OPERATOR = re.compile(
    r"No Op registered for (?P<a>\S+)|(?P<b>\S+)\(-?\d+\) is not a registered function/op"
    r"|Could not find an implementation for (?P<c>\S+)"
)

# Names of operators stand in the file as plain text. All of ONNX's and ONNX Runtime's own integer operators hold one
# of these.
_INT8_MARKS = (b"QuantizeLinear", b"DequantizeLinear", b"QLinear", b"MatMulInteger", b"ConvInteger", b"QGemm")
_MIXED_MARKS = (b"MatMulNBits", b"MatMulBnb4")


class OnnxEngine:
    """An inference session."""

    def __init__(self, path: Path, runtime: RuntimeInfo, threads: int) -> None:
        self._path = path
        self._session: Any = _open_session(path, runtime, threads)
        self._signature = Signature(
            inputs=tuple(_spec(tensor) for tensor in self._session.get_inputs()),
            outputs=tuple(_spec(tensor) for tensor in self._session.get_outputs()),
        )
        self._outputs = [spec.name for spec in self._signature.outputs]

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes as in the file; a symbolic axis is dynamic."""
        return self._signature

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One `session.run`."""
        session = self._session
        if session is None:
            raise RuntimeFailure("the model is closed")
        try:
            values = session.run(self._outputs, inputs)
        except Exception as error:
            raise RuntimeFailure(f"onnxruntime failed: {_clean(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def precision(self) -> Precision:
        """From the operators' names in the file, without parsing it."""
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if any(data.find(mark) >= 0 for mark in _INT8_MARKS):
                return "int8"
            if any(data.find(mark) >= 0 for mark in _MIXED_MARKS):
                return "mixed"
        specs = (*self._signature.inputs, *self._signature.outputs)
        return "fp16" if any(spec.dtype == "float16" for spec in specs) else "fp32"

    def close(self) -> None:
        """Drop the session; a prediction that another thread is in ends well."""
        self._session = None


def _open_session(path: Path, runtime: RuntimeInfo, threads: int) -> Any:  # noqa: ANN401 - the library is untyped
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime's own errors share no base below Exception.
        text = _clean(error)
        unknown = _UNKNOWN_OPERATOR.search(text)
        if unknown:
            name = next(group for group in unknown.groups() if group)
            raise LoadError(f"the model uses operator {name!r}, unknown to onnxruntime {runtime.version}") from error
        raise LoadError(f"not an ONNX model that onnxruntime {runtime.version} can open: {text}") from error


def _spec(tensor: Any) -> TensorSpec:  # noqa: ANN401 - the library is untyped
    if tensor.type not in _DTYPES:
        raise LoadError(f"tensor {tensor.name!r} is a {tensor.type}; only tensors of numbers are served")
    # Symbolic axes are strings, or None without a name; exporters write dynamic ones as -1 or 0 at times.
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in tensor.shape)
    return TensorSpec(name=tensor.name, dtype=_DTYPES[tensor.type], shape=shape)


def _clean(error: Exception) -> str:
    """The first sentence without the runtime's prefix, our path and its source's path."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"/onnxruntime_src/\S+ (.*?\) )?", "", text)
    return text[:400]
