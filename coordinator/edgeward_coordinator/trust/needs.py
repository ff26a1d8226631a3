"""What a model file needs of a runtime, as far as the file says it.

An ONNX file names the version of its representation (IR) and of its operators
(opset); https://onnxruntime.ai/docs/reference/compatibility.html says which
onnxruntime brought which. A TFLite file says nothing that holds for both of its
runtimes. What is newer than the table, and what can't be read, is not known:
then nothing is asked for, and the device's own golden check decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from edgeward.protocol.model import Flavor
    from edgeward_coordinator.registry import Registry

# The first onnxruntime that has an IR version, and an opset of the default domain.
_OF_IR: Final = {7: (1, 7), 8: (1, 10), 9: (1, 15), 10: (1, 18)}
_OF_OPSET: Final = {
    13: (1, 7),
    14: (1, 8),
    15: (1, 10),
    16: (1, 11),
    17: (1, 12),
    18: (1, 14),
    19: (1, 15),
    20: (1, 17),
    21: (1, 18),
}

# Fields of ModelProto and OperatorSetIdProto, and protobuf's wire types.
_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_OPSET_BYTES: Final = 4096
_MAX_FIELDS: Final = 100_000


def least_runtimes(registry: Registry, flavor: Flavor) -> dict[str, str]:
    """The least version of each runtime that can run a flavor; empty where that is not known.

    Raises:
        NotFound: Its artifact is gone.
    """
    if flavor.format != "onnx":
        return {}
    return least_onnxruntime(registry.open_artifact(flavor.digest))


def least_onnxruntime(pieces: Iterable[bytes]) -> dict[str, str]:
    """The same of an ONNX file, read once from its start in pieces."""
    try:
        needed = [_version_of(*named) for named in _named_versions(_Reader(pieces))]
    except (EOFError, ValueError):
        return {}
    if not needed or None in needed:
        return {}
    major, minor = max(each for each in needed if each is not None)
    return {"onnxruntime": f"{major}.{minor}"}


def _version_of(table: Mapping[int, tuple[int, int]], version: int) -> tuple[int, int] | None:
    if version < min(table):
        return table[min(table)]
    return table.get(version)


def _named_versions(reader: _Reader) -> Iterator[tuple[Mapping[int, tuple[int, int]], int]]:
    """What the top level of a ModelProto says of its IR and its default opset."""
    for _ in range(_MAX_FIELDS):
        if reader.at_end():
            return
        field, kind = divmod(reader.varint(), 8)
        if (field, kind) == (_IR_VERSION, _VARINT):
            yield _OF_IR, reader.varint()
        elif (field, kind) == (_OPSET_IMPORT, _BYTES):
            domain, version = _opset(reader.take(reader.varint(), most=_MAX_OPSET_BYTES))
            if domain in {b"", b"ai.onnx"}:
                yield _OF_OPSET, version
        else:
            _skip(reader, kind)
    raise ValueError("too many fields for a model")


def _opset(content: bytes) -> tuple[bytes, int]:
    reader, domain, version = _Reader([content]), b"", 0
    while not reader.at_end():
        field, kind = divmod(reader.varint(), 8)
        if (field, kind) == (_DOMAIN, _BYTES):
            domain = reader.take(reader.varint(), most=_MAX_OPSET_BYTES)
        elif (field, kind) == (_VERSION, _VARINT):
            version = reader.varint()
        else:
            _skip(reader, kind)
    return domain, version


def _skip(reader: _Reader, kind: int) -> None:
    if kind == _VARINT:
        reader.varint()
    elif kind in {_FIXED32, _FIXED64}:
        reader.skip(4 if kind == _FIXED32 else 8)
    elif kind == _BYTES:
        reader.skip(reader.varint())
    else:
        raise ValueError(f"no wire type {kind}")


class _Reader:
    """Bytes in pieces, read from front to back; keeps one piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0

    def at_end(self) -> bool:
        """Whether nothing is left."""
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._piece, self._at = piece, 0
        return False

    def take(self, count: int, *, most: int) -> bytes:
        """The next bytes."""
        if count > most:
            raise ValueError(f"{count} bytes are too many")
        taken = bytearray()
        while len(taken) < count:
            taken += self._some(count - len(taken))
        return bytes(taken)

    def skip(self, count: int) -> None:
        """Go on behind the next bytes."""
        while count:
            count -= len(self._some(count))

    def varint(self) -> int:
        """The next number, of 64 bits at most."""
        value = 0
        for shift in range(0, 70, 7):
            (byte,) = self._some(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a varint without end")

    def _some(self, most: int) -> bytes:
        if self.at_end():
            raise EOFError
        some = self._piece[self._at : self._at + most]
        self._at += len(some)
        return some
