"""Public models, as they are: they open, run and give the outputs that their makers or another runtime gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeward_compression.runtimes import ProbeError, load_model, probe_model

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Format, Precision


@pytest.fixture
def models(shared_data: Path) -> Path:
    """The folder of public models."""
    folder = shared_data / "models-dev"
    return folder if folder.exists() else shared_data


def tensor(path: Path) -> np.ndarray:
    array: np.ndarray = numpy_helper.to_array(onnx.load_tensor(str(path)))
    return array


def test_mnist_gives_its_published_output(models: Path) -> None:
    """The test vector that comes with the model is met."""
    folder = models / "mnist-conv"
    with load_model(folder / "model.onnx", format="onnx") as model:
        (name,) = (spec.name for spec in model.signature.inputs)
        (output,) = model.predict({name: tensor(folder / "input_0.pb")}).values()
    np.testing.assert_allclose(output, tensor(folder / "output_0.pb"), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("file", "model_format", "precision", "shape"),
    [
        ("mlperf-tiny/kws_ref_model.tflite", "tflite", "int8", (None, 49, 10, 1)),
        ("onnx-light/light_squeezenet.onnx", "onnx", "fp32", (1, 3, 224, 224)),
        ("tflite-support/mobilenet_v1_0.25_224_quant.tflite", "tflite", "int8", (1, 224, 224, 3)),
        ("tflite-support/movie_review.tflite", "tflite", "fp32", (1, 256)),
        ("tflm/hello_world_float.tflite", "tflite", "fp32", (None, 1)),
        ("tflm/hello_world_int8.tflite", "tflite", "int8", (None, 1)),
        ("tflm/micro_speech_quantized.tflite", "tflite", "int8", (1, 1960)),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) and "/" in value else "",
)
def test_public_model_passes_its_probe(
    models: Path, file: str, model_format: Format, precision: Precision, shape: tuple[int | None, ...]
) -> None:
    """Its input's shape, dynamic axes and precision are what its makers say."""
    result = probe_model(models / file, format=model_format)
    assert result.signature.inputs[0].shape == shape
    assert result.precision == precision
    assert all(np.isfinite(array).all() for array in result.outputs.values())


def test_batch_of_a_dynamic_public_model_equals_its_rows(models: Path) -> None:
    """Resizing a model that says its batch is dynamic gives the numbers of single rows."""
    x = np.random.default_rng(0).integers(-128, 128, (3, 49, 10, 1), np.int8)
    with load_model(models / "mlperf-tiny/kws_ref_model.tflite", format="tflite") as model:
        together = model.predict({"input_1": x})["Identity"]
        apart = [model.predict({"input_1": x[i : i + 1]})["Identity"] for i in range(len(x))]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_public_model_with_a_custom_operator_is_told_in_words(models: Path) -> None:
    """The operator that no runtime here has is named."""
    path = models / "tflm/negative-custom-op/audio_preprocessor_int8.tflite"
    with pytest.raises(ProbeError, match="operator 'SignalWindow', unknown to"):
        probe_model(path, format="tflite")
