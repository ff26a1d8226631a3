"""Whether two versions answered alike, row by row. Pure.

    scores (floats, or integers of 8 and 16 bits, with two columns or more)   the same highest column
    labels (booleans, integers of 32 bits and more)                           equal
    other numbers                                                             within the tolerance of their spread

A row has more than one place to look at where an output has more axes, and more
than one output where the model has: all must agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.tensors import Array

_LABELS = {"b1", "i4", "i8", "u4", "u8"}


def agreeing_rows(answered: Mapping[str, Array], other: Mapping[str, Array], *, rows: int, tolerance: float) -> int:
    """How many of the rows were answered alike.

    Args:
        answered: The outputs that were served.
        other: The outputs of the candidate.
        rows: How many rows were asked; an output that has not so many counts as one.
        tolerance: For numbers, as a share of the spread (max - min) of what was served.

    Returns:
        From 0 to `rows`.

    >>> scores = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    >>> agreeing_rows({"y": scores}, {"y": scores[::-1]}, rows=2, tolerance=0.1)
    0
    """
    if answered.keys() != other.keys():
        return 0
    agreed = np.ones(rows, np.bool_)
    for name, array in answered.items():
        if array.shape != other[name].shape:
            return 0
        alike = _alike(array, other[name], tolerance)
        by_row = alike.ndim > 0 and alike.shape[0] == rows
        agreed &= alike.reshape(rows, -1).all(axis=1) if by_row else alike.all()
    return int(agreed.sum())


def _alike(answered: Array, other: Array, tolerance: float) -> Array:
    """True wherever they agree; of the outputs' shape, or without the last axis."""
    if answered.dtype.str[1:] in _LABELS or answered.dtype.kind not in "iuf" or other.dtype.kind not in "iuf":
        return np.asarray(answered == other)
    finite = np.isfinite(answered) == np.isfinite(other)
    if answered.ndim > 1 and answered.shape[-1] > 1:
        return np.asarray((answered.argmax(axis=-1) == other.argmax(axis=-1)) & finite.all(axis=-1))
    return np.asarray(_near(answered, other, tolerance) & finite)


def _near(answered: Array, other: Array, tolerance: float) -> Array:
    have, want = other.astype(np.float64), answered.astype(np.float64)
    sound = want[np.isfinite(want)]
    if not sound.size:
        return np.asarray(~np.isfinite(have))
    spread = float(sound.max() - sound.min()) or max(abs(float(sound.max())), 1.0)
    return np.isclose(have, want, rtol=0.0, atol=tolerance * spread, equal_nan=True)
