"""What a model file says that it needs of a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeward_coordinator.trust.needs import least_onnxruntime
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path


def onnx_bytes(*, ir: int, opset: int, domain: str = "", weights: int = 4) -> bytes:
    """A model of these versions."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [weights])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [weights])
    w = helper.make_tensor("w", TensorProto.FLOAT, [weights], [1.0] * weights)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
    imports = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid(domain, opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("ir", "opset", "least"),
    [
        (7, 13, "1.7"),
        (8, 13, "1.10"),
        (8, 17, "1.12"),
        (10, 17, "1.18"),
        (9, 20, "1.17"),
        (3, 7, "1.7"),
        (10, 21, "1.18"),
    ],
)
def test_the_newer_of_both_counts(ir: int, opset: int, least: str) -> None:
    """Of the representation's version and the operators'."""
    assert least_onnxruntime([onnx_bytes(ir=ir, opset=opset)]) == {"onnxruntime": least}


@pytest.mark.parametrize(("ir", "opset"), [(10, 99), (99, 17)])
def test_what_is_newer_than_the_table_is_not_known(ir: int, opset: int) -> None:
    """Then nothing is asked for."""
    assert least_onnxruntime([onnx_bytes(ir=ir, opset=opset)]) == {}


def test_the_default_domain_has_two_names() -> None:
    """Empty, and ai.onnx."""
    assert least_onnxruntime([onnx_bytes(ir=8, opset=17, domain="ai.onnx")]) == {"onnxruntime": "1.12"}


@given(st.integers(1, 997))
def test_however_it_comes_in_pieces(piece_bytes: int) -> None:
    """Weights are passed over."""
    content = onnx_bytes(ir=8, opset=17, weights=2000)
    pieces = (content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes))
    assert least_onnxruntime(pieces) == {"onnxruntime": "1.12"}


def test_a_real_model_runs_on_what_is_installed(tmp_path: Path) -> None:
    """What is asked for is not more than what runs it here."""
    import onnxruntime

    path = write_onnx_scale(tmp_path / "m")
    model = onnx.load(path)
    needs = least_onnxruntime([path.read_bytes()])
    assert needs or model.ir_version > 10
    least = [int(part) for part in needs["onnxruntime"].split(".")]
    assert least <= [int(part) for part in onnxruntime.__version__.split(".")[:2]]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_model(data: bytes) -> None:
    """Need nothing, and do no harm."""
    least_onnxruntime([data])


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_model(at: int, value: int) -> None:
    """Likewise, cut or changed anywhere."""
    content = bytearray(onnx_bytes(ir=8, opset=17))
    content[at % len(content)] = value
    least_onnxruntime([bytes(content)])
    least_onnxruntime([bytes(content[:at])])
