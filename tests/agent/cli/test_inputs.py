"""What a file holds as the inputs of a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.model import Signature, TensorSpec
from edgeward_agent.cli.predict import read_inputs
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    from pathlib import Path


def takes(dtype: str, *names: str) -> Signature:
    return Signature(
        inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=(None,)) for name in names or ("x",)), outputs=()
    )


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("dtype", "content"),
    [("int8", [-128, 127]), ("uint8", [0, 255]), ("float16", [0.5, 1]), ("bool", [True, False]), ("int64", [1.0, 2.0])],
)
def test_json_takes_the_dtype_of_the_signature(tmp_path: Path, dtype: str, content: list[float]) -> None:
    """Where no number is changed by it."""
    array = read_inputs(write(tmp_path, content), takes(dtype))["x"]
    assert array.dtype.name == dtype
    np.testing.assert_array_equal(array, content)


@pytest.mark.parametrize(
    ("dtype", "content", "message"),
    [
        ("int8", [300], "holds numbers outside of int8"),
        ("uint8", [-1], "holds numbers outside of uint8"),
        ("int8", [0.5], "holds fractions, and the model takes int8"),
        ("bool", [2], "holds numbers outside of bool"),
        ("float32", [None], "'x' is no array of float32"),
    ],
)
def test_a_cast_that_would_ask_something_else_is_misuse(
    tmp_path: Path, dtype: str, content: list[object], message: str
) -> None:
    """300 is not 44."""
    with pytest.raises(Misuse, match=message):
        read_inputs(write(tmp_path, content), takes(dtype))


def test_one_array_for_a_model_of_two_inputs_is_misuse(tmp_path: Path) -> None:
    """Its inputs are named."""
    with pytest.raises(Misuse, match="the model takes a, b"):
        read_inputs(write(tmp_path, [1]), takes("float32", "a", "b"))


def test_arrays_are_given_to_two_inputs_by_name(tmp_path: Path) -> None:
    """From JSON and from npz alike."""
    np.savez(tmp_path / "x.npz", a=np.array([1], np.float32), b=np.array([2], np.float32))
    for path in (write(tmp_path, {"a": [1], "b": [2]}), tmp_path / "x.npz"):
        inputs = read_inputs(path, takes("float32", "a", "b"))
        assert {name: array.tolist() for name, array in inputs.items()} == {"a": [1], "b": [2]}
