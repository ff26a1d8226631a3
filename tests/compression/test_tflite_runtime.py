"""The last tflite-runtime, for real, in an environment of its own: it needs numpy 1.

There our light packages come from the source folders, as on a device that could
install nothing newer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.golden import GoldenSet, encode_golden
from edgeward_compression.models.evaluate import make_golden
from edgeward_compression.runtimes import load_model
from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Compressed

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-tflite-runtime/bin/python"

PROBE = """
import sys
from pathlib import Path
from edgeward.protocol.golden import decode_golden
from edgeward_compression.runtimes import ProbeError, available_runtimes, probe_model
assert [runtime.name for runtime in available_runtimes()] == ["tflite-runtime"]
try:
    result = probe_model(Path(sys.argv[1]), format="tflite", golden=decode_golden(Path(sys.argv[2]).read_bytes()))
    print(result.runtime, result.runtime_version, result.precision, result.golden.passed)
except ProbeError as error:
    print(error)
"""


def probe(model: Path, golden: Path) -> str:
    """What a probe on tflite-runtime has to say."""
    environment = {"PYTHONPATH": f"{ROOT}/proto:{ROOT}/compression"}
    command = [str(PYTHON), "-c", PROBE, str(model), str(golden)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def _environment() -> None:
    """Without the environment there is nothing to test; missing is a failure in CI and a visible skip elsewhere."""
    if not PYTHON.exists():
        reason = f"{PYTHON.parent.parent.name} is missing (make test sets it up)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """The golden set of y = 2 x on three rows."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "golden.npz"
    path.write_bytes(encode_golden(GoldenSet(inputs={"x": x}, outputs={"y": 2 * x}, tolerance=1e-3)))
    return path


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (tiny_models.write_tflite_scale, "tflite-runtime 2.14.0 fp32 True"),
        (lambda path: tiny_models.write_tflite_scale(path, dynamic=True), "tflite-runtime 2.14.0 fp32 True"),
        (lambda path: tiny_models.write_tflite_scale(path, factor=3.0), "tflite-runtime 2.14.0 fp32 False"),
        (
            lambda path: tiny_models.write_tflite_custom(path, "Wobble"),
            "the model uses operator 'Wobble', unknown to tflite-runtime 2.14.0",
        ),
        (tiny_models.write_tflite_crashing, "the runtime crashed (SIGSEGV) while loading the model"),
        (tiny_models.write_onnx_scale, "not a TFLite model that tflite-runtime 2.14.0 can open: "),
    ],
    ids=["rows", "dynamic", "wrong-numbers", "custom-operator", "crash", "not-tflite"],
)
def test_tflite_runtime_is_probed_like_any_other(
    tmp_path: Path, golden: Path, write: Callable[[Path], Path], words: str
) -> None:
    """The predecessor's interpreter answers through the same interface, and its crashes cost a sentence too."""
    assert probe(write(tmp_path / "model"), golden).startswith(words)


@pytest.mark.parametrize("name", ["tflite-fp32", "tflite-int8"])
def test_our_tflite_flavors_pass_their_golden_sets_there(compressed: Compressed, name: str) -> None:
    """What the coordinator made and checked on LiteRT computes the same on the older runtime."""
    event = compressed.flavors()[name]
    said = probe(compressed.folder / event["file"], compressed.folder / event["golden"])
    assert said == f"tflite-runtime 2.14.0 {event['precision']} True"


def test_model_that_computes_wrong_numbers_there_is_caught(compressed: Compressed, tmp_path: Path) -> None:
    """Dynamic-range int8 runs right on LiteRT and wrong, without a word, on tflite-runtime: the golden set tells."""
    from ai_edge_quantizer import quantizer, recipe

    writer = quantizer.Quantizer(str(compressed.folder / compressed.flavors()["tflite-fp32"]["file"]))
    writer.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    model = tmp_path / "model"
    model.write_bytes(writer.quantize(enable_progress_report=False).quantized_model)
    images = np.random.default_rng(0).random((8, 1, 8, 8)).astype(np.float32)
    with load_model(model, format="tflite") as loaded:
        golden = make_golden(loaded, images, "int8")
    (tmp_path / "golden.npz").write_bytes(encode_golden(golden))
    assert probe(model, tmp_path / "golden.npz") == "tflite-runtime 2.14.0 int8 False"
