"""Patches: the bytes that turn one artifact into another, exactly.

`apply_patch` is what a device runs: numpy and zstandard, bounded memory, and no
model is parsed. `make_patch` knows where ONNX and TFLite keep their tensors.
"""

from edgeward_compression.patches.apply import apply_patch
from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.make import PatchInfo, make_patch

__all__ = ["PatchError", "PatchInfo", "apply_patch", "make_patch"]
