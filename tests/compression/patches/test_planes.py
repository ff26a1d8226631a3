"""Differences as planes: what is written is what is read, at every width and density."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.format import WIDTHS
from edgeward_compression.patches.planes import PlaneReader, PlaneWriter


def write(base: bytes, target: bytes, width: int) -> tuple[PlaneWriter, list[int]]:
    writer = PlaneWriter()
    return writer, writer.write(base, target, width)


def reader_of(writer: PlaneWriter) -> PlaneReader:
    return PlaneReader(*(b"".join(stream) for stream in (writer.gaps, writer.values, writer.dense)))


@given(width=st.sampled_from(WIDTHS), count=st.integers(1, 2000), changes=st.integers(0, 2000), seed=st.integers(0, 99))
def test_round_trip(width: int, count: int, changes: int, seed: int) -> None:
    """Few or many changes, of any size, at any element."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 256, count * width, np.uint8)
    after = before.copy()
    after[rng.integers(0, len(after), changes)] = rng.integers(0, 256, changes, np.uint8)
    writer, numbers = write(before.tobytes(), after.tobytes(), width)
    reader = reader_of(writer)
    assert reader.read(before.tobytes(), width, numbers) == after.tobytes()
    reader.verify_end()


@pytest.mark.parametrize("gap", [0, 1, 253, 254, 255, 256, 509, 510, 511, 10_000])
def test_gap_of_any_length(gap: int) -> None:
    """A value after so many zeros, twice: the byte of a long gap is no gap itself."""
    after = (bytes(gap) + b"\x01") * 2
    writer, numbers = write(bytes(len(after)), after + b"", 1)
    assert reader_of(writer).read(bytes(len(after)), 1, numbers) == after


@pytest.mark.parametrize("width", WIDTHS)
def test_small_steps_down_are_as_cheap_as_up(width: int) -> None:
    """Only the lowest plane is written, whatever the sign: 0 - 1 wraps, and its high bytes would be 255."""
    kind = np.dtype(f"<u{width}")
    after = np.zeros(100, kind)
    after[10], after[20] = 1, np.iinfo(kind).max
    writer, numbers = write(bytes(100 * width), after.tobytes(), width)
    assert numbers[1:] == [0] * (width - 1)
    assert b"".join(writer.values) == bytes([2, 1])


@pytest.mark.parametrize(
    ("gaps", "values", "numbers", "message"),
    [
        (b"\x64", b"\x01", [2], "past the end of its tensor"),
        (b"\xff\x00", b"\x01", [3], "past the end of its tensor"),
        (b"\x00", b"", [2], "too few values"),
        (b"", b"", [2], "too few gaps"),
        (b"", b"", [1], "too few dense planes"),
        (bytes(200), bytes(200), [201], "more gaps than the tensor has elements"),
    ],
    ids=["beyond", "beyond by a long gap", "no value", "no gap", "no plane", "too many gaps"],
)
def test_streams_that_do_not_fit(gaps: bytes, values: bytes, numbers: list[int], message: str) -> None:
    """Each is refused before a byte lands outside the tensor."""
    with pytest.raises(PatchError, match=message):
        PlaneReader(gaps, values, b"").read(bytes(100), 1, numbers)


def test_leftovers_are_refused() -> None:
    """A stream that holds more than its segments use."""
    with pytest.raises(PatchError, match="1 values that belong to nothing"):
        PlaneReader(b"", b"x", b"").verify_end()
