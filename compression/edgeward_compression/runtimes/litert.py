"""TFLite models in LiteRT or in its predecessor tflite-runtime, which have one interface."""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.protocol.model import Signature, TensorSpec
from edgeward_compression.runtimes.errors import LoadError, RuntimeFailure
from edgeward_compression.runtimes.installed import AI_EDGE_LITERT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from edgeward.protocol.model import Precision
    from edgeward.protocol.state import RuntimeInfo
    from edgeward.protocol.tensors import Array

_UNKNOWN_OPERATOR = re.compile(r"unresolved custom op: ([^\s.]+)|Didn't find op for builtin opcode '(\w+)'")
_FAILURES = (RuntimeError, ValueError, MemoryError)
_DEFAULT_SIGNATURE = "serving_default"
_NUMERIC_KINDS = "biuf"


class LiteRTEngine:
    """An interpreter; one prediction at a time, because it holds the tensors."""

    def __init__(self, path: Path, runtime: RuntimeInfo, threads: int) -> None:
        self._runtime = runtime
        self._lock = Lock()
        self._interpreter: Any = _open_interpreter(path, runtime, threads)
        inputs, outputs = _named_details(self._interpreter)
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self._signature = Signature(
            inputs=tuple(_spec(name, detail) for name, detail in inputs.items()),
            outputs=tuple(_spec(name, detail) for name, detail in outputs.items()),
        )
        self._allocated = {name: tuple(detail["shape"]) for name, detail in inputs.items()}

    @property
    def signature(self) -> Signature:
        """Names from the file's signature where it has one, else of its tensors."""
        return self._signature

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Set, invoke, copy out."""
        with self._lock:
            interpreter = self._opened()
            try:
                self._allocate({name: array.shape for name, array in inputs.items()})
                for name, array in inputs.items():
                    interpreter.set_tensor(self._inputs[name], array)
                interpreter.invoke()
                return {name: interpreter.get_tensor(index) for name, index in self._outputs.items()}
            except _FAILURES as error:
                raise RuntimeFailure(f"{self._runtime.name} failed: {_clean(error)}") from error

    def precision(self) -> Precision:
        """From the dtypes of the tensors inside."""
        with self._lock:
            return _precision(self._opened().get_tensor_details())

    def close(self) -> None:
        """Free the interpreter, after the prediction that may be running."""
        with self._lock:
            self._interpreter = None

    def _opened(self) -> Any:  # noqa: ANN401 - the library is untyped
        if self._interpreter is None:
            raise RuntimeFailure("the model is closed")
        return self._interpreter

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Make room for inputs of these shapes; they change only where an axis is dynamic."""
        if shapes == self._allocated:
            return
        self._allocated = {}
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name], shape)
        self._interpreter.allocate_tensors()
        self._allocated = shapes


def _open_interpreter(path: Path, runtime: RuntimeInfo, threads: int) -> Any:  # noqa: ANN401 - the library is untyped
    if runtime.name == AI_EDGE_LITERT:
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tflite_runtime.interpreter import Interpreter
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except _FAILURES as error:
        text = _clean(error)
        unknown = _UNKNOWN_OPERATOR.search(text)
        if unknown:
            name = unknown[1] or unknown[2]
            raise LoadError(f"the model uses operator {name!r}, unknown to {runtime.name} {runtime.version}") from error
        raise LoadError(f"not a TFLite model that {runtime.name} {runtime.version} can open: {text}") from error
    return interpreter


def _named_details(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 - the library is untyped
    """The input and output tensors by the names that a caller uses."""
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
    signatures = interpreter.get_signature_list()
    if signatures:
        key = _DEFAULT_SIGNATURE if _DEFAULT_SIGNATURE in signatures else next(iter(signatures))
        runner = interpreter.get_signature_runner(key)
        named = runner.get_input_details(), runner.get_output_details()
        # A file may hold more graphs than its main one; the signature's names count where they are the main one's.
        if (_indices(named[0]), _indices(named[1])) == (_indices(inputs), _indices(outputs)):
            return named
    return inputs, outputs


def _indices(details: dict[str, Any]) -> set[int]:
    return {detail["index"] for detail in details.values()}


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in _NUMERIC_KINDS:
        raise LoadError(f"tensor {name!r} is of {dtype.name}; only tensors of numbers are served")
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return TensorSpec(name=name, dtype=dtype.name, shape=tuple(int(axis) if axis >= 0 else None for axis in shape))


def _precision(details: Iterable[Mapping[str, Any]]) -> Precision:
    """By what is quantized: int16 activations come with int8 weights, int8 ones with int32 biases."""
    quantized: set[str] = set()
    plain: set[str] = set()
    for detail in details:
        has_scales = len(detail["quantization_parameters"]["scales"]) > 0
        (quantized if has_scales else plain).add(np.dtype(detail["dtype"]).name)
    if "int16" in quantized:
        return "int16"
    if quantized & {"int8", "uint8", "int4", "uint4"}:
        return "int8"
    return "fp16" if "float16" in plain else "fp32"


def _clean(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
