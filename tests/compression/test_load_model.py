"""Loaded models answer alike over every runtime, and say no in words."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.protocol.model import TensorSpec
from edgeward_compression.runtimes import InputError, LoadError, RuntimeFailure, load_model
from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.model import Format
    from edgeward.protocol.tensors import Array

SCALES: dict[str, tuple[Format, Callable[[Path], Path], tuple[int | None, ...]]] = {
    "onnx": ("onnx", tiny_models.write_onnx_scale, (None, 4)),
    "onnx-of-one-row": ("onnx", lambda path: tiny_models.write_onnx_scale(path, batch=1), (1, 4)),
    "tflite": ("tflite", tiny_models.write_tflite_scale, (1, 4)),
    "tflite-dynamic": ("tflite", lambda path: tiny_models.write_tflite_scale(path, dynamic=True), (None, 4)),
}


def rows(count: int) -> Array:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


@pytest.fixture(params=SCALES, ids=list(SCALES))
def scale(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each kind of file of y = 2 x, loaded."""
    model_format, write, shape = SCALES[request.param]
    with load_model(write(tmp_path / "scale"), format=model_format) as model:
        assert model.signature.inputs == (TensorSpec(name="x", dtype="float32", shape=shape),)
        assert model.signature.outputs == (TensorSpec(name="y", dtype="float32", shape=shape),)
        yield model


@pytest.mark.parametrize("count", [1, 5])
def test_one_request_fits_every_flavor(scale: Any, count: int) -> None:
    """One row or five, a batch that is dynamic or fixed at one: the answers are the same."""
    outputs = scale.predict({"x": rows(count)})
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], 2 * rows(count))


def test_batch_may_change_between_requests(scale: Any) -> None:
    """A large request leaves nothing behind that spoils the next small one."""
    for count in (1, 4, 2, 1):
        np.testing.assert_array_equal(scale.predict({"x": rows(count)})["y"], 2 * rows(count))


def test_outputs_have_memory_of_their_own(scale: Any) -> None:
    """What one request got does not change with the next."""
    first = scale.predict({"x": rows(1)})["y"]
    scale.predict({"x": rows(1) + 100})
    np.testing.assert_array_equal(first, 2 * rows(1))


@pytest.mark.parametrize(
    "arrange",
    [lambda x: x.astype(">f4"), np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]],
    ids=["big-endian", "fortran-order", "strided"],
)
def test_layout_of_the_inputs_does_not_matter(scale: Any, arrange: Callable[[Array], Array]) -> None:
    """Whatever npz or a slice makes of the same numbers gives the same answer."""
    np.testing.assert_array_equal(scale.predict({"x": arrange(rows(3))})["y"], 2 * rows(3))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, r"takes inputs \['x'\], got \[\]"),
        ({"z": rows(1)}, r"takes inputs \['x'\], got \['z'\]"),
        ({"x": rows(1).astype(np.float64)}, "'x' takes float32, got float64"),
        ({"x": rows(1)[:, :3]}, r"'x' takes shape \[[?1], 4\], got \[1, 3\]"),
        ({"x": rows(5)[:, :3]}, r"'x' takes shape"),
        ({"x": rows(1)[0]}, r"'x' takes shape \[[?1], 4\], got \[4\]"),
        ({"x": np.float32(1).reshape(())}, r"'x' takes shape \[[?1], 4\], got \[\]"),
    ],
    ids=["nothing", "another-name", "dtype", "width", "width-of-rows", "no-batch", "scalar"],
)
def test_inputs_that_do_not_fit_are_refused_in_words(scale: Any, inputs: dict[str, Array], words: str) -> None:
    """Nothing wrong reaches the runtime; the message says what the model takes and what it got."""
    with pytest.raises(InputError, match=words):
        scale.predict(inputs)


def test_no_rows_where_the_model_takes_one_is_refused(tmp_path: Path) -> None:
    """Zero runs have no outputs to join."""
    with (
        load_model(tiny_models.write_tflite_scale(tmp_path / "m"), format="tflite") as model,
        pytest.raises(InputError, match=r"got \[0, 4\]"),
    ):
        model.predict({"x": rows(0)})


def test_closed_model_predicts_no_more(scale: Any) -> None:
    """Closing twice is once; a prediction after it fails in words."""
    scale.close()
    scale.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        scale.predict({"x": rows(1)})


def test_threads_share_a_model(scale: Any) -> None:
    """Requests of several threads never see each other's numbers."""
    wrong: list[int] = []

    def ask(number: int) -> None:
        x = rows(2) + number
        wrong.extend(number for _ in range(50) if not np.array_equal(scale.predict({"x": x})["y"], 2 * x))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tflite_without_signature_goes_by_its_tensors_names(tmp_path: Path) -> None:
    """Old converters write no signature; their tensors' names are what a caller uses."""
    path = tiny_models.write_tflite_scale(tmp_path / "m", named=False)
    with load_model(path, format="tflite") as model:
        assert set(model.predict({"graph_x": rows(1)})) == {"graph_y"}


def test_int8_model_takes_int8(tmp_path: Path) -> None:
    """A model that is quantized from end to end is served with its own dtypes."""
    with load_model(tiny_models.write_tflite_int8(tmp_path / "m"), format="tflite") as model:
        y = model.predict({"x": np.array([[-3, 0, 5, 127]], np.int8)})["y"]
        assert model.precision() == "int8"
    np.testing.assert_array_equal(y, np.array([[0, 0, 5, 127]], np.int8))


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_missing_file_is_a_load_error(tmp_path: Path, model_format: Format) -> None:
    """The path is in the message."""
    with pytest.raises(LoadError, match=r"no model file .*gone"):
        load_model(tmp_path / "gone", format=model_format)


@pytest.mark.parametrize("kind", ["empty", "random", "truncated", "of-the-other-format"])
@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_file_that_is_no_model_is_a_load_error(tmp_path: Path, model_format: Format, kind: str) -> None:
    """Damage is told from a working file before anything runs; the runtime and its version are named."""
    write = tiny_models.write_onnx_scale if model_format == "onnx" else tiny_models.write_tflite_scale
    other = tiny_models.write_tflite_scale if model_format == "onnx" else tiny_models.write_onnx_scale
    whole = write(tmp_path / "whole").read_bytes()
    damaged = {
        "empty": b"",
        "random": whole[:8] + np.random.default_rng(0).bytes(500),
        "truncated": whole[: len(whole) * 2 // 3],
        "of-the-other-format": other(tmp_path / "other").read_bytes(),
    }
    path = tmp_path / "damaged"
    path.write_bytes(damaged[kind])
    with pytest.raises(LoadError, match=r"not an? (ONNX|TFLite) model that .* \d+\.\d+"):
        load_model(path, format=model_format)


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    """The message says which operator this runtime lacks."""
    with pytest.raises(LoadError, match="operator 'Wobble', unknown to onnxruntime"):
        load_model(tiny_models.write_onnx_with_operator(tmp_path / "a", "Wobble"), format="onnx")
    with pytest.raises(LoadError, match="operator 'Wobble', unknown to ai-edge-litert"):
        load_model(tiny_models.write_tflite_custom(tmp_path / "b", "Wobble"), format="tflite")


def test_failure_while_running_is_the_runtimes(tmp_path: Path) -> None:
    """Inputs fit, the model runs into something impossible: not the caller's error."""
    path = tiny_models.write_onnx_reshape(tmp_path / "m", to=[3, 3])
    with load_model(path, format="onnx") as model, pytest.raises(RuntimeFailure, match="onnxruntime failed"):
        model.predict({"x": rows(2)})
