"""Patches give their targets byte for byte, and are small where little has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeward_compression.patches import PatchError, make_patch
from edgeward_compression.patches.format import GROUP_BYTES, MAX_DICTIONARY_BYTES
from tests.compression.patches.model_files import onnx_model, tflite_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.tensors import Array
    from tests.compression.patches.conftest import RoundTrip

    Go = Callable[[bytes, bytes], RoundTrip]

RNG_SEED = 7


def weights(count: int, dtype: str = "float32") -> Array:
    values = np.random.default_rng(RNG_SEED).normal(0, 30, count)
    return values.clip(-127, 127).astype(dtype)


@given(base=st.binary(max_size=2000), target=st.binary(max_size=2000))
def test_any_two_files(round_trip: Go, base: bytes, target: bytes) -> None:
    """Whatever the two are, the patch gives the target."""
    round_trip(base, target)


@given(
    base=st.binary(min_size=200, max_size=2000),
    edits=st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 50), st.binary(max_size=50)), max_size=4),
)
def test_edited_file(round_trip: Go, base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Cuts and insertions anywhere."""
    target = base
    for offset, cut, inserted in edits:
        target = target[:offset] + inserted + target[offset + cut :]
    round_trip(base, target)


@pytest.mark.parametrize("make_model", [onnx_model, tflite_model], ids=["onnx", "tflite"])
def test_small_changes_of_all_weights(round_trip: Go, make_model: Callable[[dict[str, Array]], bytes]) -> None:
    """Where one weight of fifty moved by one, the patch is near the entropy of that, 2 %."""
    base = {name: weights(40_000, "int8") for name in ("a", "b")}
    rng = np.random.default_rng(1)
    target = {name: array + (rng.random(array.size) < 0.02).astype("int8") for name, array in base.items()}
    trip = round_trip(make_model(base), make_model(target))
    assert trip.method == "tensors"
    assert trip.share < 0.022


@pytest.mark.parametrize("make_model", [onnx_model, tflite_model], ids=["onnx", "tflite"])
def test_tensor_of_another_length_moves_the_others(
    round_trip: Go, make_model: Callable[[dict[str, Array]], bytes]
) -> None:
    """The others are found by their names and cost nothing."""
    base = {"a": weights(3000), "b": weights(50_000), "c": weights(20_000)}
    target = {"a": weights(3100), "c": base["c"], "b": base["b"]}
    trip = round_trip(make_model(base), make_model(target))
    assert trip.share < 0.01


def test_renamed_tensors_are_found_by_their_shape(round_trip: Go) -> None:
    """An exporter that counts on renames everything; the nth of a shape is still the nth."""
    base = {f"val_{index}": weights(20_000) * (index + 1) for index in range(3)}
    target = {f"val_{index + 100}": array * np.float32(1.0001) for index, array in enumerate(base.values())}
    trip = round_trip(onnx_model(base), onnx_model(target))
    assert trip.method == "tensors"
    assert trip.share < 0.65


def test_floats_cost_what_has_changed_of_them(round_trip: Go) -> None:
    """A change in the last of four bytes costs a quarter at most, though all weights changed."""
    before = weights(50_000)
    after = (before.view(np.uint32) + np.random.default_rng(2).integers(0, 200, 50_000, np.uint32)).view(np.float32)
    assert round_trip(onnx_model({"a": before}), onnx_model({"a": after})).share < 0.26


def test_scales_by_channel_are_tensors(round_trip: Go) -> None:
    """Scales that all moved in the last place cost a byte each at most."""
    scales = np.abs(weights(2000)) + np.float32(1)
    base = tflite_model({"a": weights(2000, "int8")}, scales=scales)
    target = tflite_model({"a": weights(2000, "int8")}, scales=np.nextafter(scales, np.float32(0)))
    trip = round_trip(base, target)
    assert (trip.method, len(trip.patch) < 300) == ("tensors", True)


def test_moved_content_is_found_by_the_dictionary(round_trip: Go) -> None:
    """A tensor whose rows were rotated agrees nowhere with its former self; zstandard finds the rows."""
    before = weights(60_000)
    trip = round_trip(onnx_model({"a": before}), onnx_model({"a": np.roll(before, 20_000)}))
    assert trip.method == "dictionary"
    assert trip.share < 0.01


@pytest.mark.parametrize("shift", [0, 3], ids=["in place", "shifted"])
def test_file_of_several_groups(round_trip: Go, shift: int) -> None:
    """Elements that lie across the groups' borders, and a base beyond the largest dictionary."""
    elements = (GROUP_BYTES + MAX_DICTIONARY_BYTES) // 4 + 1001
    base = np.random.default_rng(4).integers(0, 1000, elements, np.uint32).view(np.float32)
    target = base.copy()
    target.view(np.uint32)[::1000] += 1
    model = {"a": base[: 7 + shift].repeat(10), "b": base}
    trip = round_trip(onnx_model(model | {"a": model["a"][:70]}), onnx_model(model | {"b": target}))
    assert trip.share < 0.001


def test_nothing_is_left_out_of_a_failed_making(tmp_path: Path) -> None:
    """A base that isn't there is an error in words, and no half-made file stays."""
    (tmp_path / "target").write_bytes(b"target")
    with pytest.raises(PatchError, match="no patch from base to target"):
        make_patch(tmp_path / "base", tmp_path / "target", tmp_path / "patch")
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


@example(data=bytes(14), at=1, is_tflite=False)
@given(data=st.binary(max_size=300), at=st.integers(0, 10_000), is_tflite=st.booleans())
def test_damaged_model_is_only_a_file(round_trip: Go, data: bytes, at: int, is_tflite: bool) -> None:  # noqa: FBT001
    """A model whose structure leads anywhere is patched like any bytes."""
    model = (tflite_model if is_tflite else onnx_model)({"a": weights(200)})
    at %= len(model)
    round_trip(model, model[:at] + data + model[at + len(data) :])
