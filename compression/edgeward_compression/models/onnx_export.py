"""torch to ONNX: one file, dynamic batch, tensors `input` and `output`, no more in it than is needed to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_compression.models.app_model import AppModel

INPUT, OUTPUT = "input", "output"

# The exporter's native one; asked for an older one it silently gives this.
_OPSET = 18


def export_onnx(model: AppModel, target: Path) -> None:
    """Write the float model."""
    # Two rows: an axis of length one would be taken for a constant.
    rows = torch.from_numpy(np.concatenate([model.example, model.example]))
    program = torch.onnx.export(
        model.module,
        (rows,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=_OPSET,
        external_data=False,
        verbose=False,
    )
    exported = program.model_proto
    strip_metadata(exported)
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, str(target))


def strip_metadata(exported: Any) -> None:  # noqa: ANN401 - onnx is untyped
    """Remove what no runtime needs: stack traces, docs and inferred shapes are a quarter of a small int8 file.

    Operator sets that no node is of go too: a device's older runtime would refuse the file for their version alone.
    """
    graph = exported.graph
    del exported.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    used = {"", *_domains(graph)}
    kept = [operators for operators in exported.opset_import if operators.domain in used]
    del exported.opset_import[:]
    exported.opset_import.extend(kept)


def _domains(graph: Any) -> set[str]:  # noqa: ANN401 - onnx is untyped
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return {node.domain for node in graph.node}.union(*map(_domains, inner))
