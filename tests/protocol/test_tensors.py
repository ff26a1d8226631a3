"""Tests of `edgeward.protocol.tensors`."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.tensors import Array, decode_tensors, encode_tensors
from tests.protocol.damage import damaged
from tests.protocol.strategies import same_tensors, tensors

SAMPLES = [
    encode_tensors({"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([False])}),
    encode_tensors({"weights": np.asfortranarray(np.ones((3, 4), np.int8))}),
    encode_tensors({"names": np.array(["a", "bc"])}),
]


def npz(**entries: bytes) -> bytes:
    """A zip with these bytes as `<name>.npy`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array: Array) -> bytes:
    """One array with its header."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


@given(tensors())
def test_round_trip(arrays: dict[str, Array]) -> None:
    """What was encoded comes back with its names, order, types, shapes and bits."""
    assert same_tensors(decode_tensors(encode_tensors(arrays)), arrays)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "self", "", "a/b", "x.npy", "input.x"])
def test_any_name_is_a_name(name: str) -> None:
    """A tensor may be called what a function's parameter is called, or as a file."""
    arrays = {name: np.arange(3), "x": np.arange(4)}
    assert same_tensors(decode_tensors(encode_tensors(arrays)), arrays)


def test_encoding_is_reproducible() -> None:
    """The same arrays give the same bytes, so that their digest names them."""
    assert encode_tensors({"x": np.arange(3)}) == encode_tensors({"x": np.arange(3)})


def test_reads_what_numpy_writes() -> None:
    """Users make these files with numpy.savez, compressed or not."""
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=np.arange(3), y=np.eye(2))
        assert same_tensors(decode_tensors(buffer.getvalue()), {"x": np.arange(3), "y": np.eye(2)})


def test_numpy_reads_what_is_written() -> None:
    """And they read ours with numpy.load."""
    with np.load(io.BytesIO(encode_tensors({"x": np.arange(3)}))) as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]


@settings(max_examples=300)
@given(st.binary(max_size=300) | damaged(SAMPLES))
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    """A decoder raises WireError or gives arrays, whatever the bytes."""
    try:
        decoded = decode_tensors(data)
    except WireError:
        return
    assert all(isinstance(array, np.ndarray) for array in decoded.values())


@settings(max_examples=300)
@given(damaged([npy(np.arange(6, dtype=np.float32)), npy(np.array(["ab"])), npy(np.ones((2, 2), ">i2"))]))
def test_arbitrary_arrays_in_a_sound_zip_raise_only_the_wire_error(content: bytes) -> None:
    """Damage behind the zip's checksum reaches numpy's header parser, which must not surface either."""
    try:
        decode_tensors(npz(x=content))
    except WireError:
        return


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (npz(x=npy(np.arange(3)) + b"more"), "longer than its array"),
        (npz(x=b"no array"), "not a readable npz"),
        (npz(x=npy(np.zeros((3,), "V0"))), "no size"),
    ],
    ids=["trailing", "no-array", "sizeless"],
)
def test_says_what_is_wrong(data: bytes, words: str) -> None:
    """The message names the fault."""
    with pytest.raises(WireError, match=words):
        decode_tensors(data)


def test_entry_that_is_no_array_is_refused() -> None:
    """A zip of other things is no npz."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.md", b"hello")
    with pytest.raises(WireError, match=r"README\.md"):
        decode_tensors(buffer.getvalue())


def test_announced_size_is_bounded_before_inflating() -> None:
    """A small file that would inflate to more than allowed is refused by its directory."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(10_000_000, np.int8))
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(WireError, match="at most 1000"):
        decode_tensors(buffer.getvalue(), max_bytes=1000)


def test_objects_are_refused_at_both_ends() -> None:
    """Python objects would be pickle, which runs code."""
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="Python objects"):
        encode_tensors({"x": objects})
    buffer = io.BytesIO()
    np.savez(buffer, x=objects)
    with pytest.raises(WireError):
        decode_tensors(buffer.getvalue())
