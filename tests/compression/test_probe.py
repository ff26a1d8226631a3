"""First contact with a model: whatever it does, the parent gets an answer or one sentence."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from edgeward.protocol.golden import GoldenSet
from edgeward_compression.runtimes import ProbeError, ProbeResult, probe_model, probe_model_async
from tests import tiny_models
from tests.waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.model import Format

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def golden(*, factor: float = 2.0, tolerance: float = 1e-3) -> GoldenSet:
    return GoldenSet(inputs={"x": X}, outputs={"y": factor * X}, tolerance=tolerance)


def probes_of(path: Path) -> list[psutil.Process]:
    """The children of this process that probe `path`."""
    return [child for child in psutil.Process().children() if any(str(path) in word for word in child.cmdline())]


WRITERS: dict[Format, Callable[[Path], Path]] = {
    "onnx": tiny_models.write_onnx_scale,
    "tflite": tiny_models.write_tflite_scale,
}


@pytest.mark.parametrize("model_format", WRITERS, ids=list(WRITERS))
def test_probe_tells_what_a_model_is_and_did(tmp_path: Path, model_format: Format) -> None:
    """Signature, runtime, precision and outputs come back, and the golden verdict where a set was given."""
    path = WRITERS[model_format](tmp_path / "model")
    result = probe_model(path, format=model_format, golden=golden())
    assert [spec.name for spec in result.signature.inputs + result.signature.outputs] == ["x", "y"]
    assert result.runtime == {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}[model_format]
    assert result.runtime_version
    assert result.precision == "fp32"
    assert result.golden is not None
    assert result.golden.passed
    assert 0 < result.latency_p50_s < 1
    np.testing.assert_array_equal(result.outputs["y"], 2 * X)


def test_probe_without_golden_set_makes_up_its_inputs(tmp_path: Path) -> None:
    """A model can be shown to run before anyone has written a golden set for it."""
    result = probe_model(tiny_models.write_onnx_scale(tmp_path / "model"), format="onnx")
    assert result.golden is None
    assert result.outputs["y"].shape == (1, 4)


def test_wrong_numbers_fail_the_golden_check(tmp_path: Path) -> None:
    """A model that loads, runs and computes something else is told apart; that is the result, not an error."""
    path = tiny_models.write_onnx_scale(tmp_path / "model", factor=2.5)
    report = probe_model(path, format="onnx", golden=golden()).golden
    assert report is not None
    assert not report.passed
    assert "'y' is off by" in report.problem


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"z": X}, r"golden set does not fit the model: the model takes inputs \['x'\], got \['z'\]"),
        ({"x": X.astype(np.int32)}, "golden set does not fit the model: 'x' takes float32, got int32"),
        ({"x": X[:, :2]}, r"golden set does not fit the model: 'x' takes shape \[\?, 4\], got \[3, 2\]"),
    ],
    ids=["name", "dtype", "shape"],
)
def test_golden_inputs_that_do_not_fit_are_refused(tmp_path: Path, inputs: dict[str, np.ndarray], words: str) -> None:
    """The set is at fault and the message says how."""
    path = tiny_models.write_onnx_scale(tmp_path / "model")
    with pytest.raises(ProbeError, match=words):
        probe_model(path, format="onnx", golden=GoldenSet(inputs=inputs, outputs={"y": X}, tolerance=1.0))


def test_runtime_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    """Asking for a runtime by name never falls back to another."""
    path = tiny_models.write_tflite_scale(tmp_path / "model")
    with pytest.raises(ProbeError, match="install tflite-runtime"):
        probe_model(path, format="tflite", runtime="tflite-runtime")


def test_quantized_operators_are_seen_in_an_onnx_file(tmp_path: Path) -> None:
    """A file with a quantizing operator counts as int8, whatever its inputs are."""
    path = tiny_models.write_onnx_quantized(tmp_path / "model")
    assert probe_model(path, format="onnx").precision == "int8"


@pytest.mark.parametrize(
    ("model_format", "write", "words"),
    [
        ("onnx", lambda path: tiny_models.write_onnx_with_operator(path, "Wobble"), "operator 'Wobble', unknown to"),
        ("tflite", lambda path: tiny_models.write_tflite_custom(path, "Wobble"), "operator 'Wobble', unknown to"),
        ("onnx", lambda path: tiny_models.write_onnx_reshape(path, to=[3, 3]), "onnxruntime failed"),
        ("onnx", lambda path: path, "there is no model file"),
    ],
    ids=["onnx-operator", "tflite-operator", "fails-while-running", "missing"],
)
def test_model_that_can_not_run_is_told_in_words(
    tmp_path: Path, model_format: Format, write: Callable[[Path], Path], words: str
) -> None:
    """What the runtime raised in the child is the message here."""
    with pytest.raises(ProbeError, match=words):
        probe_model(write(tmp_path / "model"), format=model_format)


@pytest.mark.parametrize("kind", ["truncated", "random"])
@pytest.mark.parametrize("model_format", WRITERS, ids=list(WRITERS))
def test_damaged_model_is_told_in_words(tmp_path: Path, model_format: Format, kind: str) -> None:
    """Bytes that are no model cost a sentence."""
    path = WRITERS[model_format](tmp_path / "model")
    whole = path.read_bytes()
    path.write_bytes(
        whole[: len(whole) // 2] if kind == "truncated" else whole[:8] + np.random.default_rng(0).bytes(2000)
    )
    with pytest.raises(ProbeError, match=r"not an? (ONNX|TFLite) model"):
        probe_model(path, format=model_format)


def test_model_that_crashes_the_runtime_costs_the_child(tmp_path: Path) -> None:
    """A real segmentation fault inside the runtime arrives as a sentence with the signal's name."""
    path = tiny_models.write_tflite_crashing(tmp_path / "model")
    with pytest.raises(ProbeError, match=r"the runtime crashed \(SIGSEGV\) while loading the model"):
        probe_model(path, format="tflite")


def test_model_that_needs_too_much_memory_is_told_in_words(tmp_path: Path) -> None:
    """The limit holds in the child and stands in the message."""
    path = tiny_models.write_onnx_hungry(tmp_path / "model", gibibytes=16)
    with pytest.raises(ProbeError, match="more memory than the 512 MiB"):
        probe_model(path, format="onnx", memory_limit_bytes=512 << 20)


def test_model_that_hangs_is_ended(tmp_path: Path) -> None:
    """An endless loop costs the time that the caller allows, and no process stays behind."""
    path = tiny_models.write_onnx_endless(tmp_path / "model")
    with pytest.raises(ProbeError, match=r"did not open, run and close within 1 s"):
        probe_model(path, format="onnx", timeout_s=1)
    assert probes_of(path) == []


def test_killed_child_is_told_in_words(tmp_path: Path) -> None:
    """When the kernel's out-of-memory killer takes the child, the message says so much."""
    path = tiny_models.write_onnx_endless(tmp_path / "model")
    failures: list[str] = []

    def probe() -> None:
        try:
            probe_model(path, format="onnx")
        except ProbeError as error:
            failures.append(str(error))

    thread = threading.Thread(target=probe)
    thread.start()
    wait_until(lambda: probes_of(path))
    probes_of(path)[0].kill()
    thread.join()
    assert len(failures) == 1
    assert "killed (SIGKILL)" in failures[0]


def test_child_ends_by_itself_when_its_parent_is_gone(tmp_path: Path) -> None:
    """An agent that is killed in the middle of a check leaves no process that computes for ever."""
    request = {
        "path": str(tiny_models.write_onnx_endless(tmp_path / "model")),
        "format": "onnx",
        "runtime": None,
        "timeout_s": 0.1,
        "memory_limit_bytes": 1 << 32,
        "max_output_bytes": 1 << 20,
    }
    command = [sys.executable, "-m", "edgeward_compression.runtimes.probe_child", json.dumps(request)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == -signal.SIGALRM


async def test_async_twin_gives_the_same_answer(tmp_path: Path) -> None:
    """Both shells share everything but the waiting."""
    path = tiny_models.write_tflite_scale(tmp_path / "model")
    result: ProbeResult = await probe_model_async(path, format="tflite", golden=golden())
    assert result.golden is not None
    assert result.golden.passed
    np.testing.assert_array_equal(result.outputs["y"], 2 * X)


async def test_async_twin_ends_a_model_that_hangs(tmp_path: Path) -> None:
    """The timeout holds on the event loop too."""
    path = tiny_models.write_onnx_endless(tmp_path / "model")
    with pytest.raises(ProbeError, match="within 1 s"):
        await probe_model_async(path, format="onnx", timeout_s=1)
    assert probes_of(path) == []


async def test_cancelling_kills_the_child(tmp_path: Path) -> None:
    """An agent that shuts down in the middle of a check waits for no model."""
    path = tiny_models.write_onnx_endless(tmp_path / "model")
    probing = asyncio.create_task(probe_model_async(path, format="onnx"), name="probe")
    await wait_until_async(lambda: probes_of(path))
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert probes_of(path) == []
