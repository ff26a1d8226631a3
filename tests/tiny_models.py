"""Real models of a few hundred bytes, made in milliseconds: y = factor * x in ONNX and TFLite, and ways to be hostile.

Both flavors take a float32 `x` of shape [batch, 4] and give `y` alike.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH = 4

_SUBGRAPHS_FIELD = 2


def write_onnx_scale(
    path: Path, *, factor: float = 2.0, batch: int | str = "batch", names: tuple[str, str] = ("x", "y")
) -> Path:
    """Multiply by `factor`; the batch is dynamic unless it is a number."""
    constant = numpy_helper.from_array(np.float32(factor), "factor")
    node = helper.make_node("Mul", [names[0], "factor"], [names[1]])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, WIDTH]) for name in names)
    return _save_onnx(path, helper.make_graph([node], "tiny", [x], [y], [constant]))


def write_onnx_with_operator(path: Path, operator: str) -> Path:
    """One node of any operator, known or not."""
    return _write_onnx(path, [helper.make_node(operator, ["x"], ["y"])], ["batch", WIDTH])


def write_onnx_reshape(path: Path, *, to: Sequence[int]) -> Path:
    """Takes any batch and runs only on one that has as many numbers as `to`."""
    node = helper.make_node("Reshape", ["x", "to"], ["y"])
    initializers = [numpy_helper.from_array(np.array(to, np.int64), "to")]
    return _write_onnx(path, [node], ["batch", WIDTH], initializers=initializers, output_shape=list(to))


def write_onnx_quantized(path: Path) -> Path:
    """Round to steps of 0.5, through int8."""
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["quantized"]),
        helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], ["y"]),
    ]
    return _write_onnx(path, nodes, ["batch", WIDTH], initializers=[scale, zero])


def write_onnx_endless(path: Path) -> Path:
    """Loads at once and never comes back from a run: a loop whose condition stays true."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["again_out"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [value("i", TensorProto.INT64, []), value("again", TensorProto.BOOL, []), value("v", TensorProto.FLOAT, None)],
        [value("again_out", TensorProto.BOOL, []), value("v_out", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    return _write_onnx(path, [loop], ["batch", WIDTH], initializers=[numpy_helper.from_array(np.bool_(1), "true")])


def write_onnx_hungry(path: Path, *, gibibytes: int) -> Path:
    """A few hundred bytes that ask for gibibytes."""
    value = helper.make_tensor_value_info
    shape = numpy_helper.from_array(np.array([gibibytes << 28], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hungry",
        [value("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [value("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [shape],
    )
    return _save_onnx(path, graph)


def write_tflite_scale(
    path: Path, *, factor: float = 2.0, batch: int = 1, named: bool = True, dynamic: bool = False
) -> Path:
    """Multiply by `factor`; `named` gives it a signature of names beside those of its tensors."""
    constant = np.full((1,), factor, np.float32)
    tensors = [
        _tensor("graph_x", tfl.TensorType.FLOAT32, [batch, WIDTH], dynamic=dynamic),
        _tensor("graph_factor", tfl.TensorType.FLOAT32, [1], buffer=1),
        _tensor("graph_y", tfl.TensorType.FLOAT32, [batch, WIDTH], dynamic=dynamic),
    ]
    options = (tfl.BuiltinOptions.MulOptions, tfl.MulOptionsT())
    return _write_tflite(path, tensors, tfl.BuiltinOperator.MUL, [0, 1], options, constant.tobytes(), named=named)


def write_tflite_int8(path: Path) -> Path:
    """Cut off below 0, on int8 from end to end."""
    tensors = [
        _tensor("graph_x", tfl.TensorType.INT8, [1, WIDTH], scale=0.5),
        _tensor("graph_y", tfl.TensorType.INT8, [1, WIDTH], scale=0.5),
    ]
    return _write_tflite(path, tensors, tfl.BuiltinOperator.RELU, [0])


def write_tflite_custom(path: Path, operator: str) -> Path:
    """One node of a custom operator."""
    tensors = [_tensor(name, tfl.TensorType.FLOAT32, [1, WIDTH]) for name in ("graph_x", "graph_y")]
    return _write_tflite(path, tensors, tfl.BuiltinOperator.CUSTOM, [0], custom=operator)


def write_tflite_crashing(path: Path) -> Path:
    """A file that passes for TFLite and kills the process that opens it: the table of its graphs is missing.

    The offset of that field in the root table's vtable is set to 0, "absent" (FlatBuffers internals, "Tables").
    """
    data = bytearray(write_tflite_scale(path).read_bytes())
    (root,) = struct.unpack_from("<I", data, 0)
    vtable = root - struct.unpack_from("<i", data, root)[0]
    struct.pack_into("<H", data, vtable + 4 + 2 * _SUBGRAPHS_FIELD, 0)
    path.write_bytes(data)
    return path


def _write_onnx(
    path: Path,
    nodes: list[Any],
    shape: list[int | str],
    *,
    initializers: list[Any] | None = None,
    output_shape: list[int | str] | None = None,
) -> Path:
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, shape)]
    outputs = [value("y", TensorProto.FLOAT, output_shape or shape)]
    return _save_onnx(path, helper.make_graph(nodes, "tiny", inputs, outputs, initializers or []))


def _save_onnx(path: Path, graph: Any) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def _tensor(
    name: str, kind: int, shape: list[int], *, buffer: int = 0, scale: float | None = None, dynamic: bool = False
) -> Any:
    tensor = tfl.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, kind, shape, buffer
    if dynamic:
        tensor.shapeSignature = [-1, *shape[1:]]
    if scale is not None:
        tensor.quantization = tfl.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def _write_tflite(
    path: Path,
    tensors: list[Any],
    operator: int,
    inputs: list[int],
    options: tuple[int, Any] | None = None,
    constant: bytes = b"",
    *,
    named: bool = True,
    custom: str = "",
) -> Path:
    code = tfl.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, min(operator, 127), 1
    code.customCode = custom or None
    node = tfl.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = 0, inputs, [len(tensors) - 1]
    if options:
        node.builtinOptionsType, node.builtinOptions = options
    graph = tfl.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [node], [0], [len(tensors) - 1]
    model = tfl.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [_buffer(b""), _buffer(constant)]
    if named:
        model.signatureDefs = [_signature_def(len(tensors) - 1)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _buffer(data: bytes) -> Any:
    buffer = tfl.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    return buffer


def _signature_def(output: int) -> Any:
    signature = tfl.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [_tensor_map("x", 0)], [_tensor_map("y", output)]
    return signature


def _tensor_map(name: str, index: int) -> Any:
    entry = tfl.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
