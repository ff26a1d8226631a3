"""The last tflite-runtime, for real: it needs numpy 1, so it lives in a folder of its own.

`pip install --target FOLDER tflite-runtime==2.14.0 'numpy<2'` makes the folder;
EDGEWARD_TFLITE_RUNTIME names it. It comes first on the path of a Python that has
our packages, as on a device that could install nothing newer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROBE = """
import sys
from pathlib import Path
import numpy as np
from edgeward.protocol.golden import GoldenSet
from edgeward_compression.runtimes import ProbeError, available_runtimes, probe_model
assert np.__version__.startswith("1."), np.__version__
assert "tflite-runtime" in {runtime.name for runtime in available_runtimes()}
x = np.arange(12, dtype=np.float32).reshape(3, 4)
golden = GoldenSet(inputs={"x": x}, outputs={"y": 2 * x}, tolerance=1e-3)
try:
    result = probe_model(Path(sys.argv[1]), format="tflite", golden=golden, runtime="tflite-runtime")
    print(result.runtime, result.runtime_version, result.precision, result.golden.passed)
except ProbeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def site() -> str:
    """The folder that holds tflite-runtime and its numpy."""
    folder = os.environ.get("EDGEWARD_TFLITE_RUNTIME")
    if not folder:
        pytest.skip("EDGEWARD_TFLITE_RUNTIME names no folder with tflite-runtime 2.14 and numpy 1")
    return folder


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (tiny_models.write_tflite_scale, "tflite-runtime 2.14.0 fp32 True"),
        (lambda path: tiny_models.write_tflite_scale(path, dynamic=True), "tflite-runtime 2.14.0 fp32 True"),
        (lambda path: tiny_models.write_tflite_scale(path, factor=3.0), "tflite-runtime 2.14.0 fp32 False"),
        (lambda path: tiny_models.write_tflite_custom(path, "Wobble"), "operator 'Wobble', unknown to tflite-runtime"),
        (tiny_models.write_tflite_crashing, "crashed (SIGSEGV)"),
    ],
    ids=["rows", "dynamic", "wrong-numbers", "custom-operator", "crash"],
)
def test_tflite_runtime_is_probed_like_any_other(
    tmp_path: Path, site: str, write: Callable[[Path], Path], words: str
) -> None:
    """The predecessor's interpreter answers through the same interface, and its crashes cost a sentence too."""
    command = [sys.executable, "-c", PROBE, str(write(tmp_path / "model"))]
    environment = {**os.environ, "PYTHONPATH": site}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert words in done.stdout, done.stderr
