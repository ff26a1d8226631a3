"""Models that a patch is worth while for, and patches between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from edgeward.protocol.targets import PatchOffer
from edgeward_compression.patches import make_patch
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from tests.agent.models_on_disk import ArtifactSource

PADDING_BYTES = 40_000


def make_padded_flavor(source: ArtifactSource, folder: Path, *, factor: float) -> Flavor:
    """A flavor of y = factor * x, with weights that it does not use and that no compression makes smaller."""
    flavor = source.make_flavor(folder, factor=factor)
    model = onnx.load(str(write_onnx_scale(folder / "padded.onnx", factor=factor)))
    padding = np.random.default_rng(0).integers(0, 256, PADDING_BYTES, np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(padding, "padding"))
    content = model.SerializeToString()
    return replace(flavor, digest=source.add(content), total_bytes=len(content))


def offer_patch(source: ArtifactSource, folder: Path, base: Flavor, target: Flavor) -> PatchOffer:
    """A patch from one to the other, among the bytes that can be fetched."""
    files = {name: folder / f"patch-{name}" for name in ("base", "target", "out")}
    files["base"].write_bytes(source.content(base.digest))
    files["target"].write_bytes(source.content(target.digest))
    make_patch(files["base"], files["target"], files["out"])
    content = files["out"].read_bytes()
    return PatchOffer(base_digest=base.digest, digest=source.add(content), total_bytes=len(content))
