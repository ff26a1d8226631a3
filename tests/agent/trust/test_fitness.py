"""What was signed against what is desired, and against what the device has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import Signature
from edgeward.protocol.state import RuntimeInfo
from edgeward_agent.trust import unfit_reason
from edgeward_agent.trust.fitness import difference_reason
from tests.agent.trust.device import FLAVOR, target_of


def test_the_flavor_that_was_signed_has_no_difference() -> None:
    """The empty sentence."""
    assert difference_reason(target_of(), FLAVOR) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"digest": digest_of(b"other")}, "SHA-256"),
        ({"total_bytes": 6}, "length in bytes was signed as 5, and 6 is desired"),
        ({"format": "tflite"}, "format was signed as onnx, and tflite is desired"),
        ({"precision": "int8"}, "precision"),
        ({"golden_digest": None}, "golden set"),
        ({"golden_bytes": 7}, "length of the golden set"),
        ({"signature": Signature(inputs=(), outputs=())}, "inputs and outputs"),
        ({"name": "other"}, "onnx-fp32 was signed, and other is desired"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_field_counts(changed: dict[str, Any], words: str) -> None:
    """A difference in any of them is told in words."""
    assert words in difference_reason(target_of(), replace(FLAVOR, **changed))


@pytest.mark.parametrize(
    ("needs", "has", "fits"),
    [
        ({}, {}, True),
        ({"onnxruntime": "1.23"}, {"onnxruntime": "1.23.0"}, True),
        ({"onnxruntime": "1.23.1"}, {"onnxruntime": "1.23"}, False),
        ({"onnxruntime": "1.9"}, {"onnxruntime": "1.23.2+cpu"}, True),
        ({"onnxruntime": "1.23"}, {"onnxruntime": "1.9"}, False),
        ({"onnxruntime": "1.23"}, {}, False),
        ({"ai-edge-litert": "2.1", "tflite-runtime": "2.14"}, {"tflite-runtime": "2.14.0"}, True),
        ({"ai-edge-litert": "2.1", "tflite-runtime": "2.15"}, {"tflite-runtime": "2.14.0"}, False),
    ],
)
def test_one_runtime_that_is_new_enough_suffices(needs: dict[str, str], has: dict[str, str], fits: bool) -> None:  # noqa: FBT001
    """Versions are compared by their numbers; none asked for is any."""
    target = replace(target_of(), runtimes=needs)
    runtimes = [RuntimeInfo(name=name, version=version) for name, version in has.items()]
    assert (unfit_reason(target, runtimes=runtimes, memory_bytes=0) == "") is fits


def test_a_runtime_that_is_too_old_is_told_in_words() -> None:
    """What it takes, and what is there."""
    target = replace(target_of(), runtimes={"onnxruntime": "1.30"})
    reason = unfit_reason(target, runtimes=[RuntimeInfo(name="onnxruntime", version="1.23.2")], memory_bytes=0)
    assert reason == "it needs onnxruntime 1.30 or newer, and this device has onnxruntime 1.23.2"


@pytest.mark.parametrize(
    ("needs", "has", "fits"), [(0, 1, True), (100, 0, True), (100, 100, True), (101, 100, False)], ids=str
)
def test_memory_is_judged_where_both_are_known(needs: int, has: int, fits: bool) -> None:  # noqa: FBT001
    """A device that does not know its memory is not refused for it."""
    target = replace(target_of(), memory_bytes=needs)
    assert (unfit_reason(target, runtimes=(), memory_bytes=has) == "") is fits
