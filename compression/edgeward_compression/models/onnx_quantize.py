"""ONNX float to int8, static.

QDQ with uint8 activations and int8 weights, a scale for each channel. The
quantizer's default, int8 activations, is slower than float on x86.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeward_compression.models.onnx_export import INPUT, strip_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array

_BATCH = 32


def quantize_onnx(source: Path, target: Path, calibration: Array) -> None:
    """Write the int8 model.

    Args:
        source: The float model.
        target: Where to; float inputs and outputs stay float.
        calibration: Inputs whose activations' extremes become the int8 range.
    """
    prepared = target.with_suffix(".prepared.onnx")
    try:
        # Folds batch normalisation into the convolutions first.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        prepared.unlink(missing_ok=True)
    quantized = onnx.load(str(target))
    strip_metadata(quantized)
    onnx.save(quantized, str(target))


class _Batches(CalibrationDataReader):
    """The calibration inputs, a batch at a time."""

    def __init__(self, inputs: Array) -> None:
        self._batches = iter([inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)])

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
