"""Which runtimes are installed, found without importing them (an import costs 150 to 250 ms)."""

from __future__ import annotations

from importlib import metadata, util
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.state import RuntimeInfo
from edgeward_compression.runtimes.errors import RuntimeMissing

if TYPE_CHECKING:
    from edgeward.protocol.model import Format

ONNXRUNTIME, AI_EDGE_LITERT, TFLITE_RUNTIME = "onnxruntime", "ai-edge-litert", "tflite-runtime"

_MODULES = {ONNXRUNTIME: "onnxruntime", AI_EDGE_LITERT: "ai_edge_litert", TFLITE_RUNTIME: "tflite_runtime"}

# Best first.
_RUNTIMES_OF: dict[Format, tuple[str, ...]] = {
    "onnx": (ONNXRUNTIME,),
    "tflite": (AI_EDGE_LITERT, TFLITE_RUNTIME),
    "arrays": (),
}


def available_runtimes() -> tuple[RuntimeInfo, ...]:
    """The runtimes that can be loaded here, with their versions; best first within a format."""
    return tuple(RuntimeInfo(name=name, version=_version(name)) for name in _MODULES if _is_usable(name))


def choose_runtime(model_format: Format, wanted: str | None = None) -> RuntimeInfo:
    """The runtime for a format.

    Args:
        model_format: What the model is.
        wanted: A runtime's name, or None for the best that is here.

    Raises:
        RuntimeMissing: None is installed, or `wanted` is not, or can't run this format.
    """
    candidates = _RUNTIMES_OF[model_format]
    if not candidates:
        raise RuntimeMissing(f"models of format {model_format!r} are weights alone: no runtime runs them")
    if wanted is not None and wanted not in candidates:
        raise RuntimeMissing(f"{wanted!r} does not run {model_format} models; {' or '.join(candidates)} does")
    installed = {runtime.name: runtime for runtime in available_runtimes()}
    for name in [wanted] if wanted else candidates:
        if name in installed:
            return installed[name]
    raise RuntimeMissing(f"no runtime for {model_format} models is installed here: install {wanted or candidates[0]}")


def _is_usable(name: str) -> bool:
    if util.find_spec(_MODULES[name]) is None:
        return False
    # The last tflite-runtime is built for numpy 1 and fails at its first model under numpy 2.
    return name != TFLITE_RUNTIME or int(np.__version__.split(".", 1)[0]) < 2


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        # A build under another distribution's name, such as onnxruntime-openvino.
        return "unknown"
