"""The order in which devices are offered flavors, and what names may be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import PRECISIONS, Flavor, Format, Precision
from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.registry import Evaluation, RegisteredFlavor, in_order_of_preference
from edgeward_coordinator.registry.version import verify_name
from tests.registrations import SIGNATURE

if TYPE_CHECKING:
    from random import Random


def flavor(form: Format, precision: Precision, latency_p50_s: float | None = None) -> RegisteredFlavor:
    """A flavor, timed or not."""
    evaluation = Evaluation(examples=10, accuracy=1.0, latency_p50_s=latency_p50_s or 0.0, runtime="onnxruntime")
    return RegisteredFlavor(
        flavor=Flavor(
            name=f"{form}-{precision}",
            format=form,
            precision=precision,
            digest=digest_of(form.encode()),
            total_bytes=1,
            golden_digest=None,
            golden_bytes=0,
            signature=SIGNATURE,
        ),
        evaluation=None if latency_p50_s is None else evaluation,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def names(*flavors: RegisteredFlavor) -> list[str]:
    """In the order of preference."""
    return [each.name for each in in_order_of_preference(flavors)]


def test_lower_precision_comes_first() -> None:
    """int8 before fp16 before fp32, whatever their latency."""
    offered = names(flavor("onnx", "fp32", 1e-6), flavor("onnx", "fp16", 1e-4), flavor("tflite", "int8", 1.0))
    assert offered == ["tflite-int8", "onnx-fp16", "onnx-fp32"]


def test_faster_format_comes_first_where_both_were_timed() -> None:
    """Of equal precision the measured latency decides."""
    assert names(flavor("onnx", "int8", 2e-4), flavor("tflite", "int8", 1e-4)) == ["tflite-int8", "onnx-int8"]


@pytest.mark.parametrize("unknown", [None, 0.0], ids=["never evaluated", "not timed"])
def test_onnx_comes_first_where_one_was_not_timed(unknown: float | None) -> None:
    """A latency without its rival's says nothing."""
    assert names(flavor("tflite", "int8", 1e-4), flavor("onnx", "int8", unknown)) == ["onnx-int8", "tflite-int8"]


def test_arrays_are_never_offered() -> None:
    """No device runs bare weights."""
    assert names(flavor("arrays", "fp32"), flavor("onnx", "fp32")) == ["onnx-fp32"]
    assert names(flavor("arrays", "fp32")) == []


FLAVORS = st.builds(
    flavor,
    st.sampled_from(["onnx", "tflite"]),
    st.sampled_from(PRECISIONS),
    st.none() | st.floats(min_value=0, max_value=1),
)


@given(st.lists(FLAVORS, unique_by=lambda each: each.flavor.name), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(flavors: list[RegisteredFlavor], random: Random) -> None:
    """The same flavors are offered in the same order, all of them, however they came."""
    shuffled = list(flavors)
    random.shuffle(shuffled)
    assert in_order_of_preference(shuffled) == in_order_of_preference(flavors)
    assert len(in_order_of_preference(flavors)) == len(flavors)


@pytest.mark.parametrize("name", ["digits", "a", "0", "mobilenet-v2_1.0", "x" * 64])
def test_names_that_can_be(name: str) -> None:
    """Lower case, digits and . _ - name a model."""
    verify_name(name, of="a model")


@pytest.mark.parametrize("name", ["", "Digits", ".hidden", "-x", "a/b", "a b", "ä", "x" * 65, "digits\n"])
def test_names_that_can_not_be(name: str) -> None:
    """What could be no file name, no option or no part of a URL names no model."""
    with pytest.raises(InvalidArgument, match="can't name a model"):
        verify_name(name, of="a model")
