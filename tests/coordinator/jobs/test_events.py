"""What a job's process says, well and badly."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.errors import WireError
from edgeward_coordinator.jobs.events import ActivityChanged, FlavorMade, FlavorSkipped, ProcessFailed, parse_event
from edgeward_coordinator.registry import Evaluation

FLAVOR: dict[str, Any] = {
    "event": "flavor",
    "name": "onnx-int8",
    "format": "onnx",
    "precision": "int8",
    "file": "model.onnx",
    "golden": "golden.npz",
    "signature": {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 4]}], "outputs": []},
    "evaluation": {"examples": 10, "accuracy": 1, "latency_p50_s": 0.5, "runtime": "onnxruntime"},
}


def line(**changes: object) -> bytes:
    """The flavor's line, changed."""
    return json.dumps(FLAVOR | changes).encode()


def test_words_of_a_process() -> None:
    """Each event carries its text."""
    assert parse_event(b'{"event": "activity", "text": "a"}') == ActivityChanged(text="a")
    assert parse_event(b'{"event": "skipped", "name": "n", "reason": "r"}') == FlavorSkipped(name="n", reason="r")
    assert parse_event(b'{"event": "failed", "error": "e"}') == ProcessFailed(error="e")


def test_flavor_is_read_whole() -> None:
    """Form, files, signature and what was measured."""
    made = parse_event(line())
    assert isinstance(made, FlavorMade)
    assert (made.name, made.format, made.precision, made.file) == ("onnx-int8", "onnx", "int8", "model.onnx")
    assert made.signature.inputs[0].shape == (None, 4)
    assert made.evaluation == Evaluation(examples=10, accuracy=1.0, latency_p50_s=0.5, runtime="onnxruntime")


def test_evaluation_may_be_missing_or_without_accuracy() -> None:
    """Held-out data is not required of an app."""
    without = parse_event(line(evaluation=None))
    assert isinstance(without, FlavorMade)
    assert without.evaluation is None
    blind = parse_event(line(evaluation={"examples": 0, "latency_p50_s": 1e-3, "runtime": "x", "accuracy": None}))
    assert isinstance(blind, FlavorMade)
    assert blind.evaluation == Evaluation(examples=0, accuracy=0.0, latency_p50_s=1e-3, runtime="x")


@pytest.mark.parametrize("words", [b"", b"Epoch 1/3\n", b"[1, 2]", b'{"loss": 0.1}', b"\xff\xfe", b"[" * 100_000])
def test_a_librarys_words_are_no_event(words: bytes) -> None:
    """They belong in the log only."""
    assert parse_event(words) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "exploded"},
        {"event": "activity"},
        {"format": "pickle"},
        {"precision": "int1"},
        {"signature": None},
        {"file": 7},
        {"evaluation": {"examples": -1}},
        {"evaluation": {"examples": 1, "accuracy": "high", "latency_p50_s": 1, "runtime": "x"}},
        {"evaluation": {"examples": 1, "accuracy": float("nan"), "latency_p50_s": 1, "runtime": "x"}},
        {"evaluation": 3},
    ],
    ids=str,
)
def test_event_of_another_form_is_refused(changes: dict[str, object]) -> None:
    """The process runs foreign code; what it says is checked."""
    with pytest.raises(WireError):
        parse_event(line(**changes))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FLAVOR)), inner, max_size=8),
    max_leaves=12,
)


@given(
    st.binary()
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(sorted(FLAVOR)), JSON_VALUES).map(lambda changes: line(**changes))
)
def test_no_words_raise_anything_else(words: bytes) -> None:
    """Whatever is said is an event, no event, or refused in one way."""
    with suppress(WireError):
        parse_event(words)
