"""The child's side of `probe`: open one model, run it, say what happened.

Starts with limits on itself: a wall-clock alarm (so it ends even if the parent
is gone), memory, no core dump, and first in line when the kernel runs out of
memory. Whatever a library prints goes to stderr; the answer has stdout alone.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.protocol.errors import WireError
from edgeward.protocol.model import signature_to_json
from edgeward.protocol.tensors import decode_tensors, encode_tensors
from edgeward_compression.runtimes.errors import InputError, ModelError
from edgeward_compression.runtimes.model import LoadedModel, load_model

if TYPE_CHECKING:
    from edgeward.protocol.model import Signature
    from edgeward.protocol.tensors import Array

_MEASURED_CALLS = 15
_MEASURED_S = 0.3
_MAX_MADE_UP_BYTES = 256 << 20


def main() -> None:
    """Answer the request in the arguments."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    _limit(request["timeout_s"], request["memory_limit_bytes"])
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    golden_inputs = sys.stdin.buffer.read()
    try:
        answer.write(b"loading ")
        with load_model(Path(request["path"]), format=request["format"], runtime=request["runtime"]) as model:
            answer.write(b"running ")
            report, outputs = _run(model, golden_inputs, request["max_output_bytes"])
            answer.write(b"closing ")
    except (ModelError, WireError, MemoryError) as error:
        report, outputs = {"error": _describe(error, request["memory_limit_bytes"])}, {}
    answer.write(b"\n" + _encode(report, outputs))


def _limit(timeout_s: float, memory_limit_bytes: int) -> None:
    signal.alarm(math.ceil(timeout_s) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # DATA, not AS: runtimes reserve far more address space than they ever touch.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _run(model: LoadedModel, golden_inputs: bytes, max_output_bytes: int) -> tuple[dict[str, Any], dict[str, Array]]:
    inputs = decode_tensors(golden_inputs) if golden_inputs else _made_up(model.signature)
    try:
        outputs = model.predict(inputs)
    except InputError as error:
        raise InputError(f"the golden set does not fit the model: {error}") from error
    total = sum(array.nbytes for array in outputs.values())
    if total > max_output_bytes:
        raise ModelError(f"the model's outputs take {total} bytes, at most {max_output_bytes} are checked")
    report = {
        "signature": signature_to_json(model.signature),
        "runtime": model.runtime_name,
        "runtime_version": model.runtime_version,
        "precision": model.precision(),
        "latency_p50_s": _latency_p50_s(model, inputs),
    }
    return report, outputs


def _describe(error: Exception, memory_limit_bytes: int) -> str:
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return f"the model needs more memory than the {memory_limit_bytes >> 20} MiB that a check may take"
    return str(error)


def _made_up(signature: Signature) -> dict[str, Array]:
    """Inputs that most models take: small positive numbers, integers that are a valid index anywhere."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = tuple(axis if axis is not None else 1 for axis in spec.shape)
        dtype = np.dtype(spec.dtype)
        if math.prod(shape) * dtype.itemsize > _MAX_MADE_UP_BYTES:
            raise ModelError(f"input {spec.name!r} of shape {list(shape)} is too large to try")
        floats = np.issubdtype(dtype, np.floating)
        inputs[spec.name] = rng.random(shape).astype(dtype) if floats else np.zeros(shape, dtype)
    return inputs


def _latency_p50_s(model: LoadedModel, inputs: dict[str, Array]) -> float:
    durations: list[float] = []
    deadline = time.perf_counter() + _MEASURED_S
    while len(durations) < _MEASURED_CALLS and (not durations or time.perf_counter() < deadline):
        start = time.perf_counter()
        model.predict(inputs)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def _encode(report: dict[str, Any], outputs: dict[str, Array]) -> bytes:
    encoded = np.frombuffer(json.dumps(report).encode(), np.uint8)
    return encode_tensors({"report": encoded, **{f"output.{name}": array for name, array in outputs.items()}})


if __name__ == "__main__":
    main()
