"""Tests of `edgeward.protocol.model`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.model import (
    FORMATS,
    PRECISIONS,
    Signature,
    TensorSpec,
    detect_format,
    parse_format,
    parse_model_name,
    parse_precision,
    signature_from_json,
    signature_to_json,
)
from tests.protocol.strategies import SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.protocol.tensors import Array

ROWS = TensorSpec(name="x", dtype="float32", shape=(None, 3))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["inputs", "outputs", "name", "dtype", "shape"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(SIGNATURES)
def test_signature_survives_json(signature: Signature) -> None:
    """What a device writes into a manifest is what it reads after a restart."""
    assert signature_from_json(json.loads(json.dumps(signature_to_json(signature)))) == signature


@given(JSON_VALUES | st.fixed_dictionaries({"inputs": JSON_VALUES, "outputs": st.just([])}))
def test_any_json_raises_only_the_wire_error(value: object) -> None:
    """A damaged manifest is a WireError."""
    try:
        signature = signature_from_json(value)
    except WireError:
        return
    assert signature_to_json(signature) == value


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 3), np.float32), ""),
        (np.zeros((5, 3), np.float64), "takes float32, got float64"),
        (np.zeros((5, 4), np.float32), r"takes shape [?, 3], got [5, 4]"),
        (np.zeros((3,), np.float32), r"takes shape [?, 3], got [3]"),
    ],
    ids=["fits", "dtype", "length", "axes"],
)
def test_input_that_does_not_fit_is_told_in_words(array: Array, words: str) -> None:
    """The message names the tensor, what it takes and what it got."""
    problem = ROWS.problem_with(array)
    assert words in problem
    assert bool(problem) is bool(words)


def test_names_of_inputs_must_be_those_of_the_model() -> None:
    """A missing or an extra input is named."""
    signature = Signature(inputs=(ROWS,), outputs=())
    x = np.zeros((1, 3), np.float32)
    assert signature.problem_with({"x": x}) == ""
    assert "got ['pixels']" in signature.problem_with({"pixels": x})
    assert "got ['x', 'y']" in signature.problem_with({"x": x, "y": x})


@given(st.integers(1, 50))
def test_model_of_one_row_takes_any_number_of_rows(rows: int) -> None:
    """A batch that is fixed at one takes n rows, as n runs; one that is dynamic takes them as one."""
    one = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 3)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 2)),),
    )
    inputs = {"x": np.zeros((rows, 3), np.float32)}
    assert (one.problem_with(inputs), one.row_count(inputs)) == ("", rows)
    assert Signature(inputs=(ROWS,), outputs=(ROWS,)).row_count(inputs) == 1


@pytest.mark.parametrize("shape", [(0, 3), (2, 4), (2, 3, 1), (), (3,)])
def test_model_of_one_row_takes_only_rows_of_its_shape(shape: tuple[int, ...]) -> None:
    """Many rows are still checked, and none at all is not one."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 3))
    signature = Signature(inputs=(spec,), outputs=(spec,))
    assert "takes shape [1, 3]" in signature.problem_with({"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("name", ["digits", "a", "mlp-v2.1_x", "A" * 64])
def test_model_names(name: str) -> None:
    """Letters, digits, dots, dashes and underscores make a name."""
    assert parse_model_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "A" * 65, "é", "a\0"])
def test_names_that_are_unsafe_as_a_folder_are_refused(name: str) -> None:
    """A model's name becomes a folder on each device, so it can never reach elsewhere."""
    with pytest.raises(WireError, match="model name"):
        parse_model_name(name)


@given(st.binary(max_size=16))
def test_format_is_told_from_any_bytes(head: bytes) -> None:
    """Neither format claims the other's bytes."""
    assert (detect_format(head) == "tflite") is (head[4:8] == b"TFL3")


@pytest.mark.parametrize("parse", [parse_format, parse_precision])
@given(text=st.text(max_size=10).filter(lambda text: text not in {*FORMATS, *PRECISIONS}))
def test_unknown_kinds_are_refused_in_words(parse: Callable[[str], str], text: str) -> None:
    """A format or precision of another release is refused, and the known ones are named."""
    with pytest.raises(WireError, match="known are"):
        parse(text)
