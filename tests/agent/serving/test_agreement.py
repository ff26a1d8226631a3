"""Tests of `edgeward_agent.serving.agreement`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeward_agent.serving.agreement import agreeing_rows

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]], np.float32)
NAN = float("nan")


def agreed(answered: Any, other: Any, *, rows: int = 3, tolerance: float = 0.1) -> int:
    return agreeing_rows({"y": np.asarray(answered)}, {"y": np.asarray(other)}, rows=rows, tolerance=tolerance)


@pytest.mark.parametrize(
    ("answered", "other", "count"),
    [
        pytest.param(SCORES, SCORES * 5, 3, id="scores: the highest column decides"),
        pytest.param(SCORES, SCORES[[1, 0, 2]], 1, id="scores: row by row"),
        pytest.param(SCORES, SCORES.astype(np.float64), 3, id="scores of another precision"),
        pytest.param((SCORES * 100).astype(np.uint8), (SCORES * 90).astype(np.uint8), 3, id="quantized scores"),
        pytest.param(SCORES, [[NAN, 0.9], [0.8, 0.2], [0.4, 0.6]], 2, id="scores: what is no number differs"),
        pytest.param(np.array([1, 2, 99]), np.array([1, 2, 98]), 2, id="labels: equal"),
        pytest.param(np.array([True, False, True]), np.array([True, True, True]), 2, id="booleans: equal"),
        pytest.param(np.array([[1, 5], [2, 6], [3, 7]]), np.array([[1, 5], [2, 9], [3, 7]]), 2, id="labels in a row"),
        pytest.param(
            np.array([[0.0], [50.0], [100.0]]), np.array([[9.0], [50.0], [111.0]]), 2, id="numbers: by their spread"
        ),
        pytest.param(np.array([7.0, 7.0, 7.0]), np.array([7.5, 7.8, 7.0]), 2, id="numbers: without a spread"),
        pytest.param(np.array([NAN, 1.0, 2.0]), np.array([NAN, 1.0, NAN]), 2, id="numbers: nan is nan"),
        pytest.param(np.array([NAN] * 3), np.array([NAN, 1.0, NAN]), 2, id="numbers: all nan"),
        pytest.param(np.zeros((3, 2, 4)), np.eye(4)[[[0, 0], [0, 1], [0, 0]]], 2, id="every place of a row must agree"),
        pytest.param(SCORES, SCORES[:, :1], 0, id="another shape"),
        pytest.param(np.array(["a", "b", "c"]), np.array(["a", "x", "c"]), 2, id="texts"),
        pytest.param(np.float32(1.0), np.float32(1.05), 3, id="one answer for all rows, alike"),
        pytest.param(np.float32(1.0), np.float32(1.5), 0, id="one answer for all rows, not alike"),
    ],
)
def test_rows_that_agree(answered: Any, other: Any, count: int) -> None:
    """The table of the rule."""
    assert agreed(answered, other) == count


def test_all_outputs_must_agree() -> None:
    """And be the same ones."""
    labels = np.array([1, 2, 3])
    served = {"scores": SCORES, "label": labels}
    assert agreeing_rows(served, {"scores": SCORES, "label": np.array([1, 2, 4])}, rows=3, tolerance=0.1) == 2
    assert agreeing_rows(served, {"scores": SCORES}, rows=3, tolerance=0.1) == 0


ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
)


@given(ARRAYS)
def test_an_answer_agrees_with_itself(array: Any) -> None:
    """Whatever it is."""
    rows = array.shape[0]
    assert agreed(array, array.copy(), rows=rows) == rows


@given(ARRAYS, ARRAYS)
def test_any_two_answers_can_be_compared(one: Any, other: Any) -> None:
    """Between none and all of the rows agree, and nothing is raised."""
    rows = one.shape[0]
    assert 0 <= agreed(one, other, rows=rows) <= rows
