"""A loaded model: checked inputs in, outputs out, the same over every runtime.

`Engine` is the seam that a runtime implements; what all share (checks, rows,
native memory layout) is here once. Safe for several threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgeward_compression.runtimes.errors import InputError, LoadError
from edgeward_compression.runtimes.installed import choose_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from edgeward.protocol.model import Format, Precision, Signature
    from edgeward.protocol.state import RuntimeInfo
    from edgeward.protocol.tensors import Array


class Engine(Protocol):
    """One model in one runtime."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on inputs that fit; raises `RuntimeFailure`."""

    def precision(self) -> Precision:
        """The precision of what is inside."""

    def close(self) -> None:
        """Give the memory back; `run` fails from now on."""


class LoadedModel:
    """A model that is ready to predict; closes as a context manager too."""

    def __init__(self, engine: Engine, runtime: RuntimeInfo) -> None:
        self._engine = engine
        self._runtime = runtime
        self.signature = engine.signature

    @property
    def runtime_name(self) -> str:
        """`onnxruntime`, `ai-edge-litert` or `tflite-runtime`."""
        return self._runtime.name

    @property
    def runtime_version(self) -> str:
        """The version of that runtime."""
        return self._runtime.version

    def precision(self) -> Precision:
        """The precision of what is inside, read from the file."""
        return self._engine.precision()

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model.

        Args:
            inputs: An array for each input of the signature, of its dtype and shape. Where the model's batch is
                fixed at one, n rows run one after the other (see `Signature`).

        Returns:
            Each output by name, in memory of its own.

        Raises:
            InputError: The inputs don't fit the signature.
            RuntimeFailure: The runtime failed.
        """
        problem = self.signature.problem_with(inputs)
        if problem:
            raise InputError(problem)
        native = {name: _native(array) for name, array in inputs.items()}
        count = self.signature.row_count(native)
        if count == 1:
            return self._engine.run(native)
        rows = [self._engine.run({name: array[i : i + 1] for name, array in native.items()}) for i in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def close(self) -> None:
        """Give the model's memory back; twice is once."""
        self._engine.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_model(path: Path, *, format: Format, runtime: str | None = None, threads: int = 1) -> LoadedModel:  # noqa: A002 - the design's word for it
    """Open a model file that has been probed before (a hostile file can kill the process that opens it).

    Args:
        path: The artifact.
        format: What it is; file names say nothing here.
        runtime: A runtime's name; by default the best one installed for the format.
        threads: How many a single prediction may use. One is fastest for the models of small devices.

    Raises:
        RuntimeMissing: No such runtime is installed.
        LoadError: The runtime can't open the file.
    """
    chosen = choose_runtime(format, runtime)
    if not Path(path).is_file():
        raise LoadError(f"there is no model file {path}")
    return LoadedModel(_open(path, format, chosen, threads), chosen)


def _open(path: Path, model_format: Format, runtime: RuntimeInfo, threads: int) -> Engine:
    if model_format == "onnx":
        from edgeward_compression.runtimes.onnx import OnnxEngine

        return OnnxEngine(path, runtime, threads)
    from edgeward_compression.runtimes.litert import LiteRTEngine

    return LiteRTEngine(path, runtime, threads)


def _native(array: Array) -> Array:
    """In this machine's byte order and C layout, as runtimes read it (npz files may be big-endian)."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
