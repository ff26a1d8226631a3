"""torch to TFLite at batch one, and to static int8: right on LiteRT and on tflite-runtime 2.14 alike.

(Dynamic-range int8 is not: channel-wise FULLY_CONNECTED gives wrong numbers
there, silently.) Inputs and outputs stay float and have the names that the ONNX
flavors have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeward_compression.models.errors import CompressionError
from edgeward_compression.models.onnx_export import INPUT, OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array
    from edgeward_compression.models.app_model import AppModel

_SIGNATURE = "serving_default"


class _Named(torch.nn.Module):
    """Gives the module's output a name; the converter takes names from keywords and dictionaries."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 - torch is untyped here
        super().__init__()
        self.module = module

    def forward(self, input: Any) -> dict[str, Any]:  # noqa: A002, ANN401 - the tensor's name
        return {OUTPUT: self.module(input)}


def export_tflite(model: AppModel, target: Path) -> None:
    """Write the float model.

    Raises:
        CompressionError: litert-torch is not installed.
    """
    try:
        import litert_torch
    except ImportError as error:
        raise CompressionError("litert-torch is not installed here: install edgeward[train]") from error
    named = _Named(model.module).eval()
    converted = litert_torch.convert(named, sample_kwargs={INPUT: torch.from_numpy(model.example)})
    converted.export(str(target))


def quantize_tflite(source: Path, target: Path, calibration: Array) -> None:
    """Write the int8 model.

    Args:
        source: The float model.
        target: Where to.
        calibration: Inputs whose activations' extremes become the int8 range.

    Raises:
        CompressionError: ai-edge-quantizer is not installed.
    """
    try:
        from ai_edge_quantizer import calibrator, quantizer
        from ai_edge_quantizer.utils import qsv_utils
    except ImportError as error:
        raise CompressionError("ai-edge-quantizer is not installed here: install edgeward[train]") from error
    recipe = _static_int8()
    # By default the range is a moving average of the extremes, which clips.
    watcher = calibrator.Calibrator(str(source), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    rows = [{INPUT: calibration[i : i + 1]} for i in range(len(calibration))]
    watcher.calibrate({_SIGNATURE: rows}, recipe)
    writer = quantizer.Quantizer(str(source))
    writer.load_quantization_recipe(recipe.get_quantization_recipe())
    quantized = writer.quantize(watcher.get_model_qsvs(), enable_progress_report=False).quantized_model
    if quantized is None:
        raise CompressionError("ai-edge-quantizer gave no model")
    target.write_bytes(quantized)


def _static_int8() -> Any:  # noqa: ANN401 - the library is untyped
    """Everything in int8 but the model's own inputs and outputs."""
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    recipe = RecipeManager()
    recipe.add_static_config(
        regex=".*", operation_name=TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
    )
    for edge in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(regex=".*", operation_name=edge, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return recipe
