"""The tensors in an ONNX file, by its protobuf wire format.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto,
AttributeProto, TensorProto). Only elements that lie packed at a fixed width are
found: `raw_data`, `float_data`, `double_data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from edgeward_compression.patches.span import MalformedModel, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BITS: Final = 70

_MODEL_GRAPH: Final = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 6
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME = 1, 2, 8
_TENSOR_ELEMENTS: Final = (4, 9, 10)  # float_data, raw_data, double_data

# By TensorProto.DataType; those that are missing have elements of a byte or less.
_WIDTHS: Final = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 14: 4, 15: 8, 16: 2}
_MAX_DEPTH: Final = 16


class _Field(NamedTuple):
    """A field of a message: its number where it is a varint, else where its content lies."""

    number: int
    varint: int
    start: int
    end: int


def find_onnx_tensors(data: memoryview) -> list[Span]:
    """The spans of all initializers and constants, of graphs inside graphs too.

    Raises:
        MalformedModel: It is no protobuf message, or a field leads past the end of the file.
    """
    model = _Field(0, 0, 0, len(data))
    return [
        span
        for graph in _fields(data, model)
        if graph.number == _MODEL_GRAPH
        for span in _in_graph(data, graph, _MAX_DEPTH)
    ]


def _in_graph(data: memoryview, graph: _Field, depth: int) -> Iterator[Span]:
    if not depth:
        raise MalformedModel("graphs lie inside graphs without end")
    for each in _fields(data, graph):
        if each.number == _GRAPH_INITIALIZER:
            yield from _in_tensor(data, each, b"")
        elif each.number == _GRAPH_NODE:
            yield from _in_node(data, each, depth)


def _in_node(data: memoryview, node: _Field, depth: int) -> Iterator[Span]:
    fields = list(_fields(data, node))
    # A constant's tensor seldom has a name; what its node gives has.
    name = next((_content(data, each) for each in fields if each.number == _NODE_OUTPUT), b"")
    for attribute in (each for each in fields if each.number == _NODE_ATTRIBUTE):
        for each in _fields(data, attribute):
            if each.number == _ATTRIBUTE_TENSOR:
                yield from _in_tensor(data, each, name)
            elif each.number == _ATTRIBUTE_GRAPH:
                yield from _in_graph(data, each, depth - 1)


def _in_tensor(data: memoryview, tensor: _Field, name: bytes) -> Iterator[Span]:
    kind, shape, elements = 0, [], None
    for each in _fields(data, tensor):
        if each.number == _TENSOR_TYPE:
            kind = each.varint
        elif each.number == _TENSOR_NAME:
            name = _content(data, each) or name
        elif each.number == _TENSOR_DIMS:
            # One varint each, or all of them packed: either way equal shapes give equal numbers.
            shape += [each.varint, *_content(data, each)]
        elif each.number in _TENSOR_ELEMENTS:
            elements = each
    if elements is None:
        return
    width, length = _WIDTHS.get(kind, 1), elements.end - elements.start
    yield Span(
        name=name.decode("utf-8", "replace"),
        shape=(kind, *shape),
        offset=elements.start,
        length=length,
        width=1 if length % width else width,
    )


def _fields(data: memoryview, message: _Field) -> Iterator[_Field]:
    position = message.start
    while position < message.end:
        key, position = _varint(data, position, message.end)
        number, wire_type = key >> 3, key & 7
        varint, start = 0, position
        if wire_type == _VARINT:
            varint, position = _varint(data, position, message.end)
            start = position
        elif wire_type == _BYTES:
            length, start = _varint(data, position, message.end)
            position = start + length
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:
            raise MalformedModel(f"no protobuf message: a field of wire type {wire_type}")
        if position > message.end:
            raise MalformedModel("no protobuf message: a field leads past its end")
        yield _Field(number, varint, start, position)


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value, shift = 0, 0
    while position < end and shift < _MAX_VARINT_BITS:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise MalformedModel("no protobuf message: a varint has no end")


def _content(data: memoryview, each: _Field) -> bytes:
    return bytes(data[each.start : each.end])
