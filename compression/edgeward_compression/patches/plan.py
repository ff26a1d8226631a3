"""Which stretch of the target comes from where in the base: tensors by name, and what lies between them by place.

The plan covers the target from front to end. A pair of tensors becomes a stretch
that is aligned with the base at the width of its elements. Between two pairs
lies the model's structure, mostly as it was: what agrees at its front and at its
end is aligned, the middle is a literal, unless it is as long as in the base and
mostly equal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeward_compression.patches.onnx_tensors import find_onnx_tensors
from edgeward_compression.patches.span import MIN_SPAN_BYTES, MalformedModel, Span
from edgeward_compression.patches.tflite_tensors import find_tflite_tensors, is_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

# A line in a patch takes some bytes too.
_MIN_COPY_BYTES: Final = 16
_MAX_CHANGED_SHARE: Final = 0.5
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the target; `width` 0 means that nothing of the base is aligned with it.

    `base_offset` is then only where the base may have something similar.
    """

    target_offset: int
    base_offset: int
    length: int
    width: int


def plan_patch(base: memoryview, target: memoryview) -> list[Stretch]:
    """Stretches that cover the target, in its order."""
    pairs = match_spans(_find_spans(base), _find_spans(target))
    planner = _Planner(base, target)
    for base_span, target_span in pairs:
        planner.add_pair(base_span, target_span)
    return planner.finish()


def match_spans(base: list[Span], target: list[Span]) -> list[tuple[Span, Span]]:
    """Pairs of tensors of one shape: those of one name first, of the others the nth with the nth.

    Args:
        base: The base's tensors in the order of its file.
        target: The target's.

    Returns:
        (base, target), in the order of the target's file.
    """
    pairs: dict[int, Span] = {}
    left = list(base)
    for key in (_name_and_shape, _shape):
        left = _match_by(key, left, target, pairs)
    return [(pairs[span.offset], span) for span in target if span.offset in pairs]


def _match_by(
    key: Callable[[Span], Hashable], base: list[Span], target: list[Span], pairs: dict[int, Span]
) -> list[Span]:
    offers: defaultdict[Hashable, list[Span]] = defaultdict(list)
    for span in reversed(base):
        offers[key(span)].append(span)
    for span in target:
        if span.offset not in pairs and offers[key(span)]:
            pairs[span.offset] = offers[key(span)].pop()
    return sorted((span for spans in offers.values() for span in spans), key=lambda span: span.offset)


def _name_and_shape(span: Span) -> Hashable:
    return span.name, span.shape, span.length, span.width


def _shape(span: Span) -> Hashable:
    return span.shape, span.length, span.width


def _find_spans(data: memoryview) -> list[Span]:
    try:
        found = find_tflite_tensors(data) if is_tflite(data) else find_onnx_tensors(data)
    except MalformedModel:
        return []
    kept: list[Span] = []
    for span in sorted(found, key=lambda each: each.offset):
        if span.length >= MIN_SPAN_BYTES and (not kept or span.offset >= kept[-1].end):
            kept.append(span)
    return kept


class _Planner:
    """Goes along the target; remembers where it is in both files."""

    def __init__(self, base: memoryview, target: memoryview) -> None:
        self._base = np.frombuffer(base, np.uint8)
        self._target = np.frombuffer(target, np.uint8)
        self._base_position = 0
        self._target_position = 0
        self._stretches: list[Stretch] = []

    def add_pair(self, base: Span, target: Span) -> None:
        self._add_between(base.offset, target.offset)
        self._add(base.offset, target.length, target.width)
        self._base_position = base.end

    def finish(self) -> list[Stretch]:
        self._add_between(len(self._base), len(self._target))
        return self._stretches

    def _add_between(self, base_end: int, target_end: int) -> None:
        start, length = self._base_position, target_end - self._target_position
        after = self._target[self._target_position : target_end]
        if base_end - start == length and _is_similar(self._base[start:base_end], after):
            self._add(start, length, 1)
            return
        prefix = _common_prefix(self._base[start : start + length], after)
        prefix = prefix if prefix >= _MIN_COPY_BYTES else 0
        before = self._base[max(0, base_end - (length - prefix)) : base_end]
        suffix = _common_prefix(before[::-1], after[prefix:][::-1])
        suffix = suffix if suffix >= _MIN_COPY_BYTES else 0
        self._add(start, prefix, 1)
        self._add(start + prefix, length - prefix - suffix, 0)
        self._add(base_end - suffix, suffix, 1)

    def _add(self, base_offset: int, length: int, width: int) -> None:
        if length:
            self._stretches.append(Stretch(self._target_position, base_offset, length, width))
            self._target_position += length


def _is_similar(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    changed = sum(int(np.count_nonzero(a != b)) for a, b in _blocks(one, other))
    return changed <= _MAX_CHANGED_SHARE * len(one)


def _common_prefix(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    length = 0
    for a, b in _blocks(one, other):
        differing = np.flatnonzero(a != b)
        if len(differing):
            return length + int(differing[0])
        length += len(a)
    return length


def _blocks(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for start in range(0, min(len(one), len(other)), _BLOCK_BYTES):
        end = min(start + _BLOCK_BYTES, len(one), len(other))
        yield one[start:end], other[start:end]
