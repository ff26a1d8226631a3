"""Whether the demo's figures keep its promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeward_server.demo.verdict import DeviceFigures, broken_promises, overall_accuracy

GOOD = DeviceFigures(
    name="device-1",
    flavor="tflite-int8",
    runtime="ai-edge-litert",
    predicted=100,
    right=95,
    reported=100,
    bytes_received=5000,
    offline_s=12.0,
    dropped_records=0,
)


def test_good_figures_break_nothing() -> None:
    """All promises kept."""
    assert broken_promises([GOOD], devices=1) == []


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        (replace(GOOD, right=90), "accuracy"),
        (replace(GOOD, reported=99), "lost 1"),
        (replace(GOOD, reported=101), "lost 1"),
        (replace(GOOD, dropped_records=2), "lost 2"),
        (replace(GOOD, predicted=0, right=0, reported=0), "predicted nothing"),
        (replace(GOOD, offline_s=0.0), "no time offline"),
        (replace(GOOD, bytes_received=0), "no bytes"),
        (replace(GOOD, flavor="onnx-int8"), "TFLite"),
    ],
    ids=["inaccurate", "lost", "counted twice", "dropped", "idle", "online", "no bytes", "no tflite"],
)
def test_each_broken_promise_is_found(figures: DeviceFigures, problem: str) -> None:
    """A figure that does not hold is said in a sentence."""
    assert any(problem in sentence for sentence in broken_promises([figures], devices=1))


def test_a_device_without_figures_is_a_broken_promise() -> None:
    """Silence is no success."""
    assert broken_promises([GOOD], devices=2) == ["1 of 2 devices have figures"]


def test_accuracy_is_over_examples_and_not_over_devices() -> None:
    """A device with few examples weighs little."""
    assert overall_accuracy([GOOD, replace(GOOD, predicted=300, right=300)]) == 395 / 400
