"""First contact with a pushed file: real runtimes, real golden sets, hostile files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.golden import TOLERANCES
from edgeward.protocol.model import Signature, TensorSpec
from edgeward.protocol.tensors import encode_tensors
from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.registry.intake import examine_model, seeded_inputs
from tests.registrations import golden_bytes
from tests.tiny_models import (
    write_onnx_quantized,
    write_onnx_reshape,
    write_onnx_scale,
    write_onnx_with_operator,
    write_tflite_crashing,
    write_tflite_custom,
    write_tflite_int8,
    write_tflite_scale,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def examine(path: Path, golden: bytes | None = None) -> str:
    """The refusal of a model, message and hint."""
    with pytest.raises(InvalidArgument) as refused:
        examine_model(path, claimed_format=None, golden=golden)
    return str(refused.value)


def test_onnx_is_told_by_its_bytes(tmp_path: Path) -> None:
    """Nobody has to say what the file is."""
    examined = examine_model(write_onnx_scale(tmp_path / "m"), claimed_format=None, golden=golden_bytes())
    assert (examined.format, examined.precision) == ("onnx", "fp32")


def test_tflite_is_told_by_its_bytes(tmp_path: Path) -> None:
    """The golden set's rows are run one by one where the batch is fixed."""
    examined = examine_model(write_tflite_scale(tmp_path / "m"), claimed_format=None, golden=golden_bytes())
    assert (examined.format, examined.precision) == ("tflite", "fp32")


def test_made_golden_set_holds_what_the_runtime_gave(tmp_path: Path) -> None:
    """Without a set of the sender's, random inputs and the coordinator's own outputs are shipped."""
    examined = examine_model(write_onnx_scale(tmp_path / "m"), claimed_format=None, golden=None)
    x = examined.golden.inputs["x"]
    assert np.ptp(x) > 0
    np.testing.assert_allclose(examined.golden.outputs["y"], 2 * x)
    assert examined.golden.tolerance == TOLERANCES["fp32"]


@pytest.mark.parametrize("write", [write_onnx_quantized, write_tflite_int8], ids=["onnx", "tflite"])
def test_quantized_model_is_told_and_gets_its_tolerance(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """An int8 model may differ by more between two CPUs."""
    examined = examine_model(write(tmp_path / "m"), claimed_format=None, golden=None)
    assert examined.precision == "int8"
    assert examined.golden.tolerance == TOLERANCES["int8"]


def test_tolerance_of_a_set_that_says_none_suits_the_precision(tmp_path: Path) -> None:
    """A user's set for a quantized model is not held against the tolerance of floats."""
    path = write_onnx_quantized(tmp_path / "m")
    examined = examine_model(path, claimed_format=None, golden=golden_bytes(factor=1.01))
    assert examined.golden.tolerance == TOLERANCES["int8"]


def test_tolerance_of_the_sender_is_kept(tmp_path: Path) -> None:
    """Who knows better says so in the set."""
    path = write_onnx_scale(tmp_path / "m")
    examined = examine_model(path, claimed_format=None, golden=golden_bytes(factor=2.1, tolerance=0.2))
    assert examined.golden.tolerance == pytest.approx(0.2)


def test_contradicted_golden_set_says_by_how_much(tmp_path: Path) -> None:
    """The measured distance is in the message."""
    refusal = examine(write_onnx_scale(tmp_path / "m"), golden_bytes(factor=3.0))
    assert "output 'y' is off by 0.333 of its range" in refusal


@pytest.mark.parametrize(
    ("golden", "words"),
    [(b"no npz", "the golden set can't be read"), (b"", "the golden set can't be read")],
    ids=["no npz", "empty"],
)
def test_unreadable_golden_set(tmp_path: Path, golden: bytes, words: str) -> None:
    """What is no set is told apart from what is a wrong one."""
    assert words in examine(write_onnx_scale(tmp_path / "m"), golden)


def test_golden_set_of_another_model(tmp_path: Path) -> None:
    """Inputs that the model does not take are named."""
    path = write_tflite_int8(tmp_path / "m")
    assert "takes int8, got float32" in examine(path, golden_bytes())


@pytest.mark.parametrize("data", [b"", b"\x89PNG....", b"PK\x03\x04 an npz"], ids=["empty", "image", "zip"])
def test_no_model(tmp_path: Path, data: bytes) -> None:
    """A file of another kind is refused before a runtime sees it."""
    path = tmp_path / "m"
    path.write_bytes(data)
    assert "no model that a device could run" in examine(path)


def test_truncated_model(tmp_path: Path) -> None:
    """Half a model is the runtime's to refuse, and ours to tell."""
    path = write_onnx_scale(tmp_path / "m")
    path.write_bytes(path.read_bytes()[:-20])
    assert "the onnx model was refused" in examine(path)


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    """What the runtime lacks stands in the message."""
    assert "Frobnicate" in examine(write_onnx_with_operator(tmp_path / "m", "Frobnicate"))
    assert "Frobnicate" in examine(write_tflite_custom(tmp_path / "n", "Frobnicate"))


def test_model_that_kills_its_runtime(tmp_path: Path) -> None:
    """It costs a process of its own and one sentence."""
    assert "crashed" in examine(write_tflite_crashing(tmp_path / "m"))


def test_model_that_takes_no_batch_of_one(tmp_path: Path) -> None:
    """Where no made-up input fits, the sender's set is what helps."""
    path = write_onnx_reshape(tmp_path / "m", to=[3, 4])
    assert "refused" in examine(path)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    golden = encode_tensors({"input.x": x, "output.y": x})
    assert examine_model(path, claimed_format=None, golden=golden).format == "onnx"


def test_claimed_format_must_be_true(tmp_path: Path) -> None:
    """A sender that says TFLite of an ONNX file is mistaken about something."""
    path = write_onnx_scale(tmp_path / "m")
    with pytest.raises(InvalidArgument, match="said to be tflite and is onnx"):
        examine_model(path, claimed_format="tflite", golden=None)
    with pytest.raises(InvalidArgument, match="no model that a device could run"):
        examine_model(path, claimed_format="arrays", golden=None)


SPECS = st.builds(
    TensorSpec,
    name=st.sampled_from(["a", "b", "c"]),
    dtype=st.sampled_from(["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"]),
    shape=st.lists(st.none() | st.integers(0, 4), max_size=4).map(tuple),
)


@given(st.lists(SPECS, unique_by=lambda spec: spec.name, min_size=1).map(tuple))
def test_seeded_inputs_fit_any_signature_and_are_always_the_same(specs: tuple[TensorSpec, ...]) -> None:
    """What is made up is what the signature asks for, bit for bit the same at every call."""
    signature = Signature(inputs=specs, outputs=())
    inputs = seeded_inputs(signature)
    assert signature.problem_with(inputs) == ""
    again = seeded_inputs(signature)
    assert all(np.array_equal(inputs[name], again[name]) for name in inputs)
