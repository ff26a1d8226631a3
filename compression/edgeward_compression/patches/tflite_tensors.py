"""The tensors in a TFLite file, by its FlatBuffers tables.

Field numbers are those of schema.fbs (Model, SubGraph, Tensor,
QuantizationParameters, Buffer); layout as in "FlatBuffers internals".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from edgeward_compression.patches.span import MalformedModel, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

_IDENTIFIER: Final = b"TFL3"
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS: Final = 0
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2

# By TensorType; those that are missing have elements of a byte or less.
_WIDTHS: Final = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 8: 4, 10: 8, 11: 8, 12: 8, 15: 4, 16: 2, 18: 2}


def is_tflite(data: memoryview) -> bool:
    """Whether the file says that it is one."""
    return bytes(data[4:8]) == _IDENTIFIER


def find_tflite_tensors(data: memoryview) -> list[Span]:
    """The spans of all constant tensors, and of scales and zero points by channel.

    Raises:
        MalformedModel: An offset leads out of the file.
    """
    try:
        return list(_in_model(_Flatbuffer(data)))
    except (struct.error, IndexError) as error:
        raise MalformedModel(f"no TFLite model: an offset leads out of the file ({error})") from error


class _Flatbuffer:
    """Reads tables and vectors at offsets from the front of the file; 0 means absent."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def root(self) -> int:
        return self._u32(0)

    def number(self, table: int, field: int, form: str) -> int:
        """A scalar field, 0 where it is absent."""
        where = self._field(table, field)
        return int(struct.unpack_from(form, self._data, where)[0]) if where else 0

    def child(self, table: int, field: int) -> int:
        """The table, vector or string that a field refers to."""
        where = self._field(table, field)
        return where + self._u32(where) if where else 0

    def children(self, table: int, field: int) -> list[int]:
        """The tables in a vector of them."""
        start, length = self.vector(table, field, 4)
        return [where + self._u32(where) for where in range(start, start + length, 4)]

    def vector(self, table: int, field: int, width: int) -> tuple[int, int]:
        """Where a vector's elements begin, and how many bytes they have."""
        vector = self.child(table, field)
        if not vector:
            return 0, 0
        return self.region(vector + 4, self._u32(vector) * width)

    def region(self, start: int, length: int) -> tuple[int, int]:
        """Start and length, checked."""
        if start + length > len(self._data):
            raise IndexError(start + length)
        return start, length

    def content(self, table: int, field: int, width: int) -> bytes:
        start, length = self.vector(table, field, width)
        return bytes(self._data[start : start + length])

    def _field(self, table: int, field: int) -> int:
        if not table:
            return 0
        vtable = table - int(struct.unpack_from("<i", self._data, table)[0])
        if vtable < 0:
            raise IndexError(vtable)
        entry = 4 + 2 * field
        (size,) = struct.unpack_from("<H", self._data, vtable)
        if entry >= size:
            return 0
        (within,) = struct.unpack_from("<H", self._data, vtable + entry)
        return table + within if within else 0

    def _u32(self, where: int) -> int:
        return int(struct.unpack_from("<I", self._data, where)[0])


def _in_model(file: _Flatbuffer) -> Iterator[Span]:
    model = file.root()
    buffers = file.children(model, _MODEL_BUFFERS)
    for index, subgraph in enumerate(file.children(model, _MODEL_SUBGRAPHS)):
        for tensor in file.children(subgraph, _SUBGRAPH_TENSORS):
            name = f"{index}/{file.content(tensor, _TENSOR_NAME, 1).decode('utf-8', 'replace')}"
            yield from _in_tensor(file, tensor, name, buffers)


def _in_tensor(file: _Flatbuffer, tensor: int, name: str, buffers: list[int]) -> Iterator[Span]:
    kind = file.number(tensor, _TENSOR_TYPE, "<b")
    shape = (kind, *file.content(tensor, _TENSOR_SHAPE, 4))
    buffer = buffers[file.number(tensor, _TENSOR_BUFFER, "<I")]
    yield _span(name, shape, _where(file, buffer), _WIDTHS.get(kind, 1))
    quantization = file.child(tensor, _TENSOR_QUANTIZATION)
    yield _span(f"{name}:scale", shape, file.vector(quantization, _QUANTIZATION_SCALE, 4), 4)
    yield _span(f"{name}:zero_point", shape, file.vector(quantization, _QUANTIZATION_ZERO_POINT, 8), 8)


def _where(file: _Flatbuffer, buffer: int) -> tuple[int, int]:
    """Large buffers lie behind the FlatBuffers part; 0 and 1 stand for no such place."""
    offset = file.number(buffer, _BUFFER_OFFSET, "<Q")
    if offset <= 1:
        return file.vector(buffer, _BUFFER_DATA, 1)
    return file.region(offset, file.number(buffer, _BUFFER_SIZE, "<Q"))


def _span(name: str, shape: tuple[int, ...], where: tuple[int, int], width: int) -> Span:
    offset, length = where
    return Span(name=name, shape=shape, offset=offset, length=length, width=1 if length % width else width)
