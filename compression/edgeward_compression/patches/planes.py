"""Differences of tensors as byte planes, each written the way it takes the least.

An element's difference is taken modulo its width and its sign is folded into the
lowest bit (0, -1, 1, -2 … become 0, 1, 2, 3 …), so that the high bytes of small
differences are zero whatever their sign. Byte k of all elements is plane k.

A plane is one of three things, said by one number:

0     all zero, nothing is written
1     dense: the plane itself
n + 1 sparse: n gaps, and a value for each gap below 255. A gap is how many zeros
      come before the value; 255 stands for 255 zeros and no value.

Gaps of changes that are strewn at random are geometrically distributed, and
zstandard's Huffman coding of such bytes comes within a few hundredths of a bit of
their entropy. As runs of zeros between literals zstandard needs about twice as much
for the few percent of weights that a fine-tuning moves in int8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgeward_compression.patches.errors import PatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Elements = NDArray[np.unsignedinteger[Any]]

_ZERO, _DENSE, _SPARSE = 0, 1, 1
_LONG_GAP: Final = 255
# Above this share of values, gaps say less than the plane itself does.
_MAX_SPARSE_SHARE: Final = 0.5


@dataclass(slots=True)
class PlaneWriter:
    """Collects what planes are written as."""

    gaps: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    dense: list[bytes] = field(default_factory=list)

    def write(self, base: bytes, target: bytes, width: int) -> list[int]:
        """Write the difference of two equally long stretches; returns the planes' numbers."""
        kind = np.dtype(f"<u{width}")
        difference = np.frombuffer(target, kind) - np.frombuffer(base, kind)
        planes = _fold_signs(difference).view(np.uint8).reshape(-1, width)
        return [self._write_plane(planes[:, index]) for index in range(width)]

    def _write_plane(self, plane: Bytes) -> int:
        positions = np.flatnonzero(plane)
        if not len(positions):
            return _ZERO
        if len(positions) > _MAX_SPARSE_SHARE * len(plane):
            self.dense.append(plane.tobytes())
            return _DENSE
        gaps = _gaps_of(positions)
        self.gaps.append(gaps)
        self.values.append(plane[positions].tobytes())
        return len(gaps) + _SPARSE


class PlaneReader:
    """Gives what a `PlaneWriter` collected, in the same order."""

    def __init__(self, gaps: bytes, values: bytes, dense: bytes) -> None:
        self._gaps = _Stream(gaps, "gaps")
        self._values = _Stream(values, "values")
        self._dense = _Stream(dense, "dense planes")

    def read(self, base: bytes, width: int, numbers: Sequence[int]) -> bytes:
        """The target's stretch.

        Raises:
            PatchError: The streams hold too little, or lead past the end of the stretch.
        """
        kind = np.dtype(f"<u{width}")
        elements = np.frombuffer(base, kind)
        planes = np.zeros((len(elements), width), np.uint8)
        for index, number in enumerate(numbers):
            self._read_plane(planes[:, index], number)
        return (elements + _unfold_signs(planes.view(kind).reshape(-1))).tobytes()

    def verify_end(self) -> None:
        """Check that nothing is left over.

        Raises:
            PatchError: Something is.
        """
        for stream in (self._gaps, self._values, self._dense):
            stream.verify_end()

    def _read_plane(self, plane: Bytes, number: int) -> None:
        if number == _ZERO:
            return
        if number == _DENSE:
            plane[:] = self._dense.take(len(plane))
            return
        if number - _SPARSE > len(plane):
            raise PatchError("the patch has more gaps than the tensor has elements")
        gaps = self._gaps.take(number - _SPARSE)
        has_value = gaps != _LONG_GAP
        positions = np.cumsum(gaps + has_value, dtype=np.int64)[has_value] - 1
        if len(positions) and positions[-1] >= len(plane):
            raise PatchError("a difference in the patch lies past the end of its tensor")
        plane[positions] = self._values.take(len(positions))


class _Stream:
    def __init__(self, data: bytes, name: str) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self._position = 0
        self._name = name

    def take(self, count: int) -> Bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise PatchError(f"the patch has too few {self._name}")
        return self._data[start : self._position]

    def verify_end(self) -> None:
        if self._position != len(self._data):
            raise PatchError(f"the patch has {len(self._data) - self._position} {self._name} that belong to nothing")


def _gaps_of(positions: NDArray[np.intp]) -> bytes:
    gaps = np.diff(positions, prepend=-1) - 1
    long, rest = np.divmod(gaps, _LONG_GAP)
    ends = np.cumsum(long + 1)
    encoded = np.full(ends[-1], _LONG_GAP, np.uint8)
    encoded[ends - 1] = rest
    return encoded.tobytes()


def _fold_signs(difference: Elements) -> Elements:
    is_negative = difference >> (8 * difference.itemsize - 1)
    folded: Elements = (difference << 1) ^ np.negative(is_negative)
    return folded


def _unfold_signs(folded: Elements) -> Elements:
    difference: Elements = (folded >> 1) ^ np.negative(folded & 1)
    return difference
