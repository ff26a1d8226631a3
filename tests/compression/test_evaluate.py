"""What an evaluation counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward_compression.models.evaluate import accuracy_of, evaluate_model, make_golden
from edgeward_compression.runtimes import load_model
from tests import tiny_models

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array

OUTPUTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1]], np.float32)


@pytest.mark.parametrize(
    ("labels", "accuracy"),
    [
        (np.array([0, 1, 2, 0]), 1.0),
        (np.array([0, 1, 2, 1], np.uint8), 0.75),
        (np.array([1, 0, 0, 2]), 0.0),
        (np.array([0.5, 0.1, 0.2, 0.3]), None),
        (np.array([[0], [1], [2], [0]]), None),
    ],
    ids=["all", "most", "none", "regression", "several-labels"],
)
def test_accuracy_is_the_share_of_labels_met(labels: Array, accuracy: float | None) -> None:
    """Classes are counted; for labels that are no classes there is no accuracy."""
    assert accuracy_of(OUTPUTS, labels) == accuracy


@pytest.mark.parametrize("batch", ["batch", 1], ids=["dynamic", "one-row"])
def test_every_held_out_example_counts(tmp_path: Path, batch: int | str) -> None:
    """More examples than fit a batch are all evaluated, in order."""
    path = tiny_models.write_onnx_scale(tmp_path / "m", batch=batch, names=("input", "output"))
    x = np.random.default_rng(0).random((300, 4)).astype(np.float32)
    labels = x.argmax(axis=1)
    labels[:30] = (labels[:30] + 1) % 4
    with load_model(path, format="onnx") as model:
        evaluation = evaluate_model(model, x, labels)
        golden = make_golden(model, x, "fp32")
    assert evaluation.examples == 300
    assert evaluation.accuracy == pytest.approx(0.9)
    np.testing.assert_array_equal(golden.outputs["output"], 2 * x[:8])


def test_regression_has_latency_and_no_accuracy(tmp_path: Path) -> None:
    """Zero examples were counted, rather than a wrong share of them."""
    path = tiny_models.write_onnx_scale(tmp_path / "m", names=("input", "output"))
    x = np.ones((5, 4), np.float32)
    with load_model(path, format="onnx") as model:
        evaluation = evaluate_model(model, x, x.sum(axis=1))
    assert (evaluation.examples, evaluation.accuracy) == (0, 0.0)
    assert evaluation.latency_p50_s > 0
