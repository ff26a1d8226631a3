"""The patch format: what stands in the file, and the bounds that its reader holds it to.

    patch   = "EWP1" base_bytes:u64 target_bytes:u64 group*
    group   = target_bytes dictionary_bytes [dictionary_offset] (raw_bytes [packed_bytes])*5 stream*5
    streams = the table of segments, gaps and values of sparse planes, dense planes, literals
    segment = kind length [base_step [plane*width]]

Numbers without a width are LEB128 varints. A patch makes its target in order, group by
group, and a group can be made alone, so that applying one takes a few tens of
MiB however large the model is. Every group but the last makes at least
`MIN_GROUP_BYTES`, so a short patch can't have many groups.

A stream is a zstandard frame without magic, or the bytes themselves where that is no
longer. Literals are compressed with a region of the base as their dictionary.

A segment takes its bytes from the base (COPY), from the base and a difference
(DIFFERENCE) or from the literals. `base_step` is the signed distance from where
the segment before it ended in the base. What a plane's number means stands in
`planes`.

There is no digest inside: which base makes which target is said, by digest and
signed, outside, and whoever applies a patch verifies what came out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from edgeward_compression.patches.errors import PatchError

if TYPE_CHECKING:
    from typing import BinaryIO

GROUP_BYTES: Final = 4 << 20
MIN_GROUP_BYTES: Final = 1 << 20
MAX_DIFFERENCE_BYTES: Final = 1 << 20
MAX_DICTIONARY_BYTES: Final = 16 << 20
WIDTHS: Final = (1, 2, 4, 8)

_MAGIC: Final = b"EWP1"
_HEADER: Final = struct.Struct("<4sQQ")
_MAX_VARINT_BYTES: Final = 9


class Kind(IntEnum):
    """Where a segment's bytes come from."""

    COPY = 0
    LITERAL = 1
    DIFFERENCE = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the target.

    `width` is the element width of a difference. `base_offset` of a literal says
    where the base is likely to have something similar; it is not written.
    """

    kind: Kind
    length: int
    base_offset: int
    width: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The lengths that the patch is for."""

    base_bytes: int
    target_bytes: int

    def encode(self) -> bytes:
        """As it stands at the front of the file."""
        return _HEADER.pack(_MAGIC, self.base_bytes, self.target_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSizes:
    """A stream's length and its length in the file; equal where it is not compressed."""

    raw_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHeader:
    """What stands before a group's streams."""

    target_bytes: int
    dictionary_bytes: int
    dictionary_offset: int
    table: StreamSizes
    gaps: StreamSizes
    values: StreamSizes
    dense: StreamSizes
    literals: StreamSizes

    def encode(self) -> bytes:
        """As it stands in the file."""
        encoded = encode_varint(self.target_bytes) + encode_varint(self.dictionary_bytes)
        if self.dictionary_bytes:
            encoded += encode_varint(self.dictionary_offset)
        for stream in (self.table, self.gaps, self.values, self.dense, self.literals):
            encoded += encode_varint(stream.raw_bytes)
            if stream.raw_bytes:
                encoded += encode_varint(stream.packed_bytes)
        return encoded


def read_header(file: BinaryIO) -> Header:
    """The front of a patch.

    Raises:
        PatchError: It is none of this version.
    """
    magic, base_bytes, target_bytes = _HEADER.unpack(read_exactly(file, _HEADER.size))
    if magic != _MAGIC:
        raise PatchError(f"this is no patch of a version known here: it begins with {magic!r}")
    return Header(base_bytes=base_bytes, target_bytes=target_bytes)


def read_group_header(file: BinaryIO, *, missing_bytes: int) -> GroupHeader:
    """The next group's header, within all bounds.

    Args:
        file: The patch.
        missing_bytes: How much of the target is still to be made.

    Raises:
        PatchError: A length in it is beyond its bound.
    """
    target_bytes = read_varint(file)
    least = min(MIN_GROUP_BYTES, missing_bytes)
    if not least <= target_bytes <= min(GROUP_BYTES, missing_bytes):
        raise PatchError(f"a group of the patch makes {target_bytes} bytes, with {missing_bytes} missing")
    dictionary_bytes = read_varint(file)
    if dictionary_bytes > MAX_DICTIONARY_BYTES:
        raise PatchError(f"the patch asks for a dictionary of {dictionary_bytes} bytes")
    dictionary_offset = read_varint(file) if dictionary_bytes else 0
    return GroupHeader(
        target_bytes=target_bytes,
        dictionary_bytes=dictionary_bytes,
        dictionary_offset=dictionary_offset,
        table=_read_stream_sizes(file),
        gaps=_read_stream_sizes(file),
        values=_read_stream_sizes(file),
        dense=_read_stream_sizes(file),
        literals=_read_stream_sizes(file),
    )


def read_exactly(file: BinaryIO, length: int) -> bytes:
    """The next `length` bytes.

    Raises:
        PatchError: The file ends before.
    """
    data = file.read(length)
    if len(data) != length:
        raise PatchError(f"the patch ends early: {length - len(data)} bytes are missing")
    return data


def encode_varint(value: int) -> bytes:
    """LEB128.

    >>> encode_varint(300).hex()
    'ac02'
    """
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(file: BinaryIO) -> int:
    """A number below 2**63.

    Raises:
        PatchError: The file ends, or the number does not.
    """
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        (byte,) = read_exactly(file, 1)
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value
    raise PatchError("a number in the patch has no end")


def fold_sign(value: int) -> int:
    """A signed number as an unsigned one, small where it is near zero.

    >>> [fold_sign(each) for each in (0, -1, 1, -2)]
    [0, 1, 2, 3]
    """
    return 2 * value if value >= 0 else -2 * value - 1


def unfold_sign(value: int) -> int:
    """The signed number again."""
    return -(value + 1) // 2 if value & 1 else value // 2


def _read_stream_sizes(file: BinaryIO) -> StreamSizes:
    raw_bytes = read_varint(file)
    packed_bytes = read_varint(file) if raw_bytes else 0
    if raw_bytes > GROUP_BYTES or packed_bytes > raw_bytes or (raw_bytes and not packed_bytes):
        raise PatchError(f"a stream of the patch claims {packed_bytes} bytes that make {raw_bytes}")
    return StreamSizes(raw_bytes=raw_bytes, packed_bytes=packed_bytes)
