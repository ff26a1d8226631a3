"""Finding tensors in files, without onnx and without flatbuffers: where the real libraries put them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeward_compression.patches.onnx_tensors import find_onnx_tensors
from edgeward_compression.patches.span import MalformedModel
from edgeward_compression.patches.tflite_tensors import find_tflite_tensors, is_tflite
from tests.compression.patches.model_files import onnx_model, save_onnx, tflite_model, tflite_model_with_data_behind

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array
    from edgeward_compression.patches.span import Span

FLOATS = np.arange(24, dtype=np.float32).reshape(4, 6)
TENSORS: dict[str, Array] = {"floats": FLOATS, "bytes": np.arange(9, dtype=np.int8), "ints": np.arange(5, dtype="<i4")}


def content(data: bytes, span: Span) -> bytes:
    return data[span.offset : span.end]


def find(data: bytes) -> dict[str, Span]:
    finder = find_tflite_tensors if is_tflite(memoryview(data)) else find_onnx_tensors
    return {span.name: span for span in finder(memoryview(data)) if span.length}


def test_onnx_initializers() -> None:
    """Name, place and width of each."""
    data = onnx_model(TENSORS)
    found = find(data)
    assert {name: (content(data, span), span.width) for name, span in found.items()} == {
        name: (array.tobytes(), array.itemsize) for name, array in TENSORS.items()
    }


def test_onnx_typed_elements_and_constants_in_subgraphs() -> None:
    """Floats outside raw_data, and a constant of a branch, which goes by its node's output."""
    typed = helper.make_tensor("typed", TensorProto.FLOAT, FLOATS.shape, FLOATS.ravel())
    constant = helper.make_node("Constant", [], ["inner"], value=numpy_helper.from_array(FLOATS + 1))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("inner", 1, [4, 6])])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    data = save_onnx([node], [typed])
    found = find(data)
    assert content(data, found["typed"]) == FLOATS.tobytes()
    assert content(data, found["inner"]) == (FLOATS + 1).tobytes()
    assert (found["typed"].width, found["inner"].width) == (4, 4)


def test_tflite_buffers_and_scales() -> None:
    """Name, place and width of each, by subgraph; scales too."""
    scales = np.linspace(1, 2, 4, dtype=np.float32)
    data = tflite_model(TENSORS, scales=scales)
    found = find(data)
    for name, array in TENSORS.items():
        assert (content(data, found[f"0/{name}"]), found[f"0/{name}"].width) == (array.tobytes(), array.itemsize)
    assert content(data, found["0/floats:scale"]) == scales.tobytes()


def test_tflite_buffer_behind_the_flatbuffers_part() -> None:
    """Where the quantizer puts the large ones."""
    data = tflite_model_with_data_behind(b"0123456789")
    assert content(data, find(data)["0/behind"]) == b"0123456789"


def test_shape_and_type_tell_tensors_apart() -> None:
    """Equal bytes of another shape or type are another tensor."""
    shapes = {find(onnx_model({"a": array}))["a"].shape for array in (FLOATS, FLOATS.T.copy(), FLOATS.view(np.int32))}
    assert len(shapes) == 3


@given(garbage=st.binary(max_size=300), at=st.integers(0, 5000), is_onnx=st.booleans())
def test_damaged_files(garbage: bytes, at: int, is_onnx: bool) -> None:  # noqa: FBT001
    """A finder gives spans inside the file, or says that it is no model."""
    data = onnx_model(TENSORS) if is_onnx else tflite_model(TENSORS)
    at %= len(data)
    damaged = data[:at] + garbage + data[at + len(garbage) :]
    for finder in (find_onnx_tensors, find_tflite_tensors):
        try:
            spans = finder(memoryview(damaged))
        except MalformedModel:
            continue
        assert all(0 <= span.offset <= span.end <= len(damaged) for span in spans)


def test_graphs_in_graphs_without_end() -> None:
    """Depth is bounded: a file of a few KiB can't exhaust the stack."""
    graph = b""
    for _ in range(40):
        attribute = b"\x32" + _sized(graph)
        graph = b"\x0a" + _sized(b"\x2a" + _sized(attribute))
    with pytest.raises(MalformedModel, match="without end"):
        find_onnx_tensors(memoryview(b"\x3a" + _sized(graph)))


def _sized(message: bytes) -> bytes:
    length, encoded = len(message), b""
    while length > 0x7F:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return encoded + bytes([length]) + message


@pytest.mark.parametrize(
    ("file", "least_share"),
    [
        ("mlperf-tiny/kws_ref_model.tflite", 0.5),
        ("tflite-support/mobilenet_v1_0.25_224_quant.tflite", 0.9),
        ("tflite-support/movie_review.tflite", 0.9),
        ("mnist-conv/model.onnx", 0.85),
    ],
    ids=lambda value: value.rpartition("/")[0] if isinstance(value, str) else "",
)
def test_public_models_are_mostly_tensors(shared_data: Path, file: str, least_share: float) -> None:
    """Most of a real file is found to be tensors."""
    folder = shared_data / "models-dev"
    data = ((folder if folder.exists() else shared_data) / file).read_bytes()
    assert sum(span.length for span in find(data).values()) > least_share * len(data)
