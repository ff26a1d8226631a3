"""Which runtimes are there, at what cost."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from edgeward_compression.runtimes import RuntimeMissing, available_runtimes, choose_runtime


def test_installed_runtimes_are_named_with_their_versions() -> None:
    """What the inventory says is what the package index says."""
    found = {runtime.name: runtime.version for runtime in available_runtimes()}
    assert found["onnxruntime"] == metadata.version("onnxruntime")
    assert found["ai-edge-litert"] == metadata.version("ai-edge-litert")


def test_listing_runtimes_imports_none_of_them() -> None:
    """The package and its list of runtimes cost no runtime's import, nor asyncio's heavy friends."""
    code = """
import sys
from edgeward_compression.runtimes import available_runtimes
assert available_runtimes()
heavy = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "onnx", "torch", "grpc", "flwr"}
print(sorted(heavy & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert printed.strip() == "[]"


def test_litert_is_preferred_for_tflite() -> None:
    """Where both are installed, the maintained one runs."""
    assert choose_runtime("tflite").name == "ai-edge-litert"


@pytest.mark.parametrize(
    ("model_format", "wanted", "words"),
    [
        ("arrays", None, "weights alone"),
        ("onnx", "ai-edge-litert", "does not run onnx models"),
        ("tflite", "tflite-runtime", "install tflite-runtime"),
    ],
    ids=["no-runtime-for-arrays", "wrong-runtime", "not-installed"],
)
def test_runtime_that_can_not_be_had_is_told_in_words(model_format: str, wanted: str | None, words: str) -> None:
    """The message says which runtime would do."""
    with pytest.raises(RuntimeMissing, match=words):
        choose_runtime(model_format, wanted)  # type: ignore[arg-type]
