"""Tests of `edgeward.protocol.golden`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.golden import (
    TOLERANCES,
    GoldenSet,
    compare_with_golden,
    decode_golden,
    encode_golden,
    problem_with_golden,
)
from edgeward.protocol.model import Signature, TensorSpec
from edgeward.protocol.tensors import Array, encode_tensors
from tests.protocol.damage import damaged
from tests.protocol.strategies import TEXT, arrays, same_tensors

X = np.arange(6, dtype=np.float32).reshape(2, 3)
GOLDEN = GoldenSet(inputs={"x": X}, outputs={"y": X * 2, "z": X[:, :1]}, tolerance=0.01)
NAMED_ARRAYS = st.dictionaries(TEXT, arrays(finite=True), min_size=1, max_size=3)


@given(NAMED_ARRAYS, NAMED_ARRAYS, st.floats(1e-9, 1e9))
def test_round_trip(inputs: dict[str, Array], outputs: dict[str, Array], tolerance: float) -> None:
    """What was encoded comes back."""
    decoded = decode_golden(encode_golden(GoldenSet(inputs=inputs, outputs=outputs, tolerance=tolerance)))
    assert same_tensors(dict(decoded.inputs), inputs)
    assert same_tensors(dict(decoded.outputs), outputs)
    assert decoded.tolerance == tolerance


def test_tolerance_may_be_left_out() -> None:
    """A user's file without a tolerance takes that of the flavor's precision."""
    data = encode_tensors({"input.x": X, "output.y": X})
    assert decode_golden(data, default_tolerance=TOLERANCES["int8"]).tolerance == TOLERANCES["int8"]


@settings(max_examples=300)
@given(st.binary(max_size=300) | damaged([encode_golden(GOLDEN)]))
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    """Whatever decodes can be compared; all else is a WireError."""
    try:
        golden = decode_golden(data)
    except WireError:
        return
    compare_with_golden(golden, golden.outputs)


@given(tensors=st.dictionaries(st.sampled_from(["input.x", "output.y", "tolerance", "other"]), arrays()))
def test_any_arrays_raise_only_the_wire_error(tensors: dict[str, Array]) -> None:
    """Sound npz files of the wrong arrays are told apart in words too."""
    try:
        golden = decode_golden(encode_tensors(tensors))
    except WireError:
        return
    assert golden.tolerance > 0
    compare_with_golden(golden, golden.outputs)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"output.y": X}, "at least one"),
        ({"input.x": X}, "at least one"),
        ({"input.x": X, "output.y": X, "label": X}, "label"),
        ({"input.x": X, "output.y": np.array(["a"])}, "only numbers"),
        ({"input.x": X, "output.y": X, "tolerance": np.array(0.0)}, "above 0"),
        ({"input.x": X, "output.y": X, "tolerance": np.array(np.nan)}, "above 0"),
        ({"input.x": X, "output.y": X, "tolerance": X}, "single number"),
        ({"input.x": X, "output.y": X, "tolerance": np.array("0.1")}, "single number"),
    ],
    ids=["no-inputs", "no-outputs", "unknown", "text-output", "zero", "nan", "many", "text"],
)
def test_says_what_is_wrong(tensors: dict[str, Array], words: str) -> None:
    """The message names the fault."""
    with pytest.raises(WireError, match=words):
        decode_golden(encode_tensors(tensors))


def test_equal_outputs_pass() -> None:
    """The very outputs are at no distance."""
    report = compare_with_golden(GOLDEN, GOLDEN.outputs)
    assert report.passed
    assert report.distances == {"y": 0.0, "z": 0.0}


@given(shift=st.floats(0.001, 0.5), scale=st.floats(1e-6, 1e6))
def test_distance_is_relative_to_the_spread(shift: float, scale: float) -> None:
    """One element off by a share of the range is refused above the tolerance, whatever the scale."""
    want = np.linspace(0, scale, 5)
    have = want.copy()
    have[2] += shift * scale
    golden = GoldenSet(inputs={"x": X}, outputs={"y": want}, tolerance=0.1)
    report = compare_with_golden(golden, {"y": have})
    assert report.distances["y"] == pytest.approx(shift, rel=1e-6)
    assert report.passed is (report.distances["y"] <= 0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", ["y", "z"])
@pytest.mark.parametrize("side", ["expected", "actual"])
def test_one_side_not_finite_fails(bad: float, output: str, side: str) -> None:
    """A nan or an infinity on one side fails, in whichever output it stands."""
    spoilt = {name: array.copy() for name, array in GOLDEN.outputs.items()}
    spoilt[output][0, 0] = bad
    if side == "actual":
        report = compare_with_golden(GOLDEN, spoilt)
    else:
        golden = GoldenSet(inputs=GOLDEN.inputs, outputs=spoilt, tolerance=0.01)
        report = compare_with_golden(golden, GOLDEN.outputs)
    assert not report.passed


def test_same_nan_on_both_sides_passes() -> None:
    """A model that rightly answers nan for an input goes on doing so."""
    outputs = {"y": np.array([1.0, np.nan])}
    golden = GoldenSet(inputs={"x": X}, outputs=outputs, tolerance=0.01)
    assert compare_with_golden(golden, outputs).passed


def test_extreme_numbers_do_not_hide_a_difference() -> None:
    """Differences beyond the largest float64 don't overflow into agreement."""
    largest = np.finfo(np.float64).max
    golden = GoldenSet(inputs={"x": X}, outputs={"y": np.array([largest, -largest])}, tolerance=0.01)
    assert not compare_with_golden(golden, {"y": np.array([-largest, largest])}).passed


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        ({"y": X * 2}, "no output 'z'"),
        ({"y": X, "z": X}, "off by|shape"),
        ({"y": X * 2, "z": X}, "shape"),
        ({"y": X * 2, "z": np.array([["a"], ["b"]])}, "expected float32"),
    ],
    ids=["missing", "first-wrong", "shape", "dtype"],
)
def test_report_says_what_differs(actual: dict[str, Array], words: str) -> None:
    """The report's problem is a sentence for the operator."""
    report = compare_with_golden(GOLDEN, actual)
    assert not report.passed
    assert re.search(words, report.problem)


def test_golden_set_of_another_model_is_told() -> None:
    """Inputs that the model doesn't take and outputs that it doesn't give are named."""
    takes_x = TensorSpec(name="x", dtype="float32", shape=(None, 3))
    gives_y = TensorSpec(name="y", dtype="float32", shape=(None, 3))
    gives_z = TensorSpec(name="z", dtype="float32", shape=(None, 1))
    assert problem_with_golden(GOLDEN, Signature(inputs=(takes_x,), outputs=(gives_y, gives_z))) == ""
    assert "'z'" in problem_with_golden(GOLDEN, Signature(inputs=(takes_x,), outputs=(gives_y,)))
    other = TensorSpec(name="pixels", dtype="float32", shape=(None, 3))
    assert "pixels" in problem_with_golden(GOLDEN, Signature(inputs=(other,), outputs=(gives_y, gives_z)))
