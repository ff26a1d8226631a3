"""First contact with a model that nobody here has run: in a child process, with limits.

Some public models kill the process that opens them, by a bug of the runtime or
by design. Here that costs an error message. The child gets one request (its
arguments, and the golden inputs as npz on stdin) and answers on stdout with the
names of the stages that it reached, a newline, and an npz of a JSON report and
the outputs; see `probe_child`.

What a signature and a golden set mean stays with the parent: the child's answer
is parsed like any foreign bytes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import compare_with_golden
from edgeward.protocol.model import parse_precision, signature_from_json
from edgeward.protocol.tensors import decode_tensors, encode_tensors
from edgeward_compression.runtimes.errors import ProbeCutShort, ProbeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.protocol.golden import GoldenReport, GoldenSet
    from edgeward.protocol.model import Format, Precision, Signature
    from edgeward.protocol.tensors import Array

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_MEMORY_LIMIT_BYTES = 4 << 30
MAX_OUTPUT_BYTES = 256 << 20

# Sent by the kernel that is out of memory, or by whoever ends the device's agent; no model does this to itself.
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)

_CHILD = "edgeward_compression.runtimes.probe_child"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a model is and did.

    `outputs` belong to the golden inputs, or where none were given to made-up
    ones (dynamic axes 1, numbers in [0, 1), integers 0). `latency_p50_s` is of
    one call with those inputs, in a process that does nothing else.
    """

    signature: Signature
    runtime: str
    runtime_version: str
    precision: Precision
    outputs: Mapping[str, Array]
    golden: GoldenReport | None
    latency_p50_s: float


def probe_model(
    path: Path,
    *,
    format: Format,  # noqa: A002 - the design's word for it
    golden: GoldenSet | None = None,
    runtime: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
) -> ProbeResult:
    """Open a model and run it in a child process.

    Args:
        path: The artifact.
        format: What it is.
        golden: Inputs to run and outputs to compare with; the verdict is in the result.
        runtime: A runtime's name; by default the best one installed for the format.
        timeout_s: How long the child may take, start-up (under a second) included.
        memory_limit_bytes: How much the child may allocate.

    Raises:
        ProbeError: The model doesn't open, doesn't take the golden inputs, doesn't run, hangs or crashes; in words.
            `ProbeCutShort` where it took too long or was killed, which another attempt may not be.
        OSError: The child can't be started.
    """
    command = _command(path, format, runtime, timeout_s, memory_limit_bytes)
    try:
        done = subprocess.run(command, input=_request(golden), capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise _timed_out(timeout_s) from error
    return _interpret(golden, timeout_s, done.returncode, done.stdout, done.stderr)


async def probe_model_async(
    path: Path,
    *,
    format: Format,  # noqa: A002 - the design's word for it
    golden: GoldenSet | None = None,
    runtime: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
) -> ProbeResult:
    """`probe_model` for an event loop; cancelling it kills the child."""
    command = _command(path, format, runtime, timeout_s, memory_limit_bytes)
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await child.communicate(_request(golden))
    except TimeoutError as error:
        raise _timed_out(timeout_s) from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _interpret(golden, timeout_s, await child.wait(), stdout, stderr)


def _command(
    path: Path, model_format: Format, runtime: str | None, timeout_s: float, memory_limit_bytes: int
) -> list[str]:
    request = {
        "path": str(path),
        "format": model_format,
        "runtime": runtime,
        "timeout_s": timeout_s,
        "memory_limit_bytes": memory_limit_bytes,
        "max_output_bytes": MAX_OUTPUT_BYTES,
    }
    # -P: what lies in the current folder is no module of ours.
    return [sys.executable, "-P", "-m", _CHILD, json.dumps(request)]


def _request(golden: GoldenSet | None) -> bytes:
    return encode_tensors(golden.inputs) if golden else b""


def _interpret(
    golden: GoldenSet | None, timeout_s: float, returncode: int, stdout: bytes, stderr: bytes
) -> ProbeResult:
    stages, _, answer = stdout.partition(b"\n")
    if returncode == -signal.SIGALRM:
        raise _timed_out(timeout_s)
    if returncode in _KILLED:
        raise ProbeCutShort(_describe_end(returncode, stages, stderr))
    if returncode:
        raise ProbeError(_describe_end(returncode, stages, stderr))
    try:
        tensors = decode_tensors(answer, max_bytes=MAX_OUTPUT_BYTES + (1 << 20))
        report = json.loads(tensors.pop("report").tobytes())
        outputs = {name.removeprefix("output."): array for name, array in tensors.items()}
        return _result(report, outputs, golden)
    except (WireError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProbeError("the probe's process gave no readable answer") from error


def _result(report: dict[str, Any], outputs: dict[str, Array], golden: GoldenSet | None) -> ProbeResult:
    if "error" in report:
        raise ProbeError(str(report["error"]))
    return ProbeResult(
        signature=signature_from_json(report["signature"]),
        runtime=str(report["runtime"]),
        runtime_version=str(report["runtime_version"]),
        precision=parse_precision(report["precision"]),
        outputs=outputs,
        golden=compare_with_golden(golden, outputs) if golden else None,
        latency_p50_s=float(report["latency_p50_s"]),
    )


def _describe_end(returncode: int, stages: bytes, stderr: bytes) -> str:
    stage = stages.decode("ascii", "replace").split()[-1:] or ["starting"]
    last_words = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    said = f": {last_words[0][:200]}" if last_words else ""
    if returncode == -signal.SIGKILL:
        return f"the probe's process was killed (SIGKILL) while {stage[0]} the model; too little memory is one cause"
    if returncode < 0:
        return f"the runtime crashed ({signal.Signals(-returncode).name}) while {stage[0]} the model{said}"
    return f"the probe's process ended with status {returncode} while {stage[0]} the model{said}"


def _timed_out(timeout_s: float) -> ProbeCutShort:
    return ProbeCutShort(f"the model did not open, run and close within {timeout_s:g} s")
