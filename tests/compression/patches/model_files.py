"""Model files with tensors of one's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.tensors import Array

TYPES = {"float32": tfl.TensorType.FLOAT32, "int8": tfl.TensorType.INT8, "int32": tfl.TensorType.INT32}


def onnx_model(tensors: Mapping[str, Array]) -> bytes:
    """An ONNX file whose initializers are these, as raw data."""
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in tensors]
    return save_onnx(nodes, initializers)


def save_onnx(nodes: list[Any], initializers: list[Any]) -> bytes:
    """An ONNX file of these nodes."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    data: bytes = helper.make_model(helper.make_graph(nodes, "graph", [], [value], initializers)).SerializeToString()
    onnx.load_model_from_string(data)
    return data


def tflite_model(tensors: Mapping[str, Array], *, scales: Array | None = None) -> bytes:
    """A TFLite file whose constants are these, in buffers inside the FlatBuffers part."""
    model, graph = tfl.ModelT(), tfl.SubGraphT()
    model.version, model.subgraphs, graph.tensors = 3, [graph], []
    model.buffers = [tfl.BufferT()]
    for name, array in tensors.items():
        tensor, buffer = tfl.TensorT(), tfl.BufferT()
        tensor.name, tensor.type, tensor.shape = name, TYPES[array.dtype.name], list(array.shape)
        tensor.buffer, buffer.data = len(model.buffers), np.frombuffer(array.tobytes(), np.uint8)
        if scales is not None:
            tensor.quantization = tfl.QuantizationParametersT()
            tensor.quantization.scale = scales
        graph.tensors.append(tensor)
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tflite_model_with_data_behind(content: bytes) -> bytes:
    """A TFLite file whose one constant lies behind the FlatBuffers part, as large models have it."""
    front = _pack_with_offset(content, 1 << 20)
    return _pack_with_offset(content, len(front)) + content


def _pack_with_offset(content: bytes, offset: int) -> bytes:
    model, graph, tensor, buffer = tfl.ModelT(), tfl.SubGraphT(), tfl.TensorT(), tfl.BufferT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = "behind", TYPES["int8"], [len(content)], 0
    buffer.offset, buffer.size = offset, len(content)
    graph.tensors, model.subgraphs, model.buffers = [tensor], [graph], [buffer]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
