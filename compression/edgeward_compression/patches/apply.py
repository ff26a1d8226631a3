"""Make the target out of the base and a patch: numpy and zstandard, no model is parsed.

It takes about 10 MiB whatever the size of the model, and up to 40 MiB where literals
were compressed with a dictionary.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import zstandard

from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.format import (
    MAX_DIFFERENCE_BYTES,
    WIDTHS,
    GroupHeader,
    Kind,
    Segment,
    StreamSizes,
    read_exactly,
    read_group_header,
    read_header,
    read_varint,
    unfold_sign,
)
from edgeward_compression.patches.planes import PlaneReader

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_KIND_BITS = 2


def apply_patch(base: Path, patch: Path, out: Path, *, max_bytes: int) -> None:
    """Write the target; the caller verifies its digest.

    Args:
        base: The artifact that the patch starts from.
        patch: The patch.
        out: Where the target goes; removed again where this fails.
        max_bytes: How long the target may be.

    Raises:
        PatchError: The patch is damaged, for another base, or makes more than `max_bytes`.
        OSError: A file can't be read or written: the disk is full.
    """
    try:
        with base.open("rb") as base_file, patch.open("rb") as patch_file, out.open("wb") as out_file:
            _apply(_Base(base_file), patch_file, out_file, max_bytes)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


class _Base:
    """The base, of which a patch may ask any region that is there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.total_bytes = file.seek(0, io.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.total_bytes:
            raise PatchError(f"the patch asks for bytes {offset} to {offset + length} of {self.total_bytes}")
        self._file.seek(offset)
        return read_exactly(self._file, length)


def _apply(base: _Base, patch: BinaryIO, out: BinaryIO, max_bytes: int) -> None:
    header = read_header(patch)
    if header.base_bytes != base.total_bytes:
        raise PatchError(f"the patch is for a base of {header.base_bytes} bytes, this one has {base.total_bytes}")
    if header.target_bytes > max_bytes:
        raise PatchError(f"the patch makes {header.target_bytes} bytes, at most {max_bytes} are allowed")
    missing_bytes, base_position = header.target_bytes, 0
    while missing_bytes:
        group = read_group_header(patch, missing_bytes=missing_bytes)
        base_position = _apply_group(base, patch, out, group, base_position)
        missing_bytes -= group.target_bytes
    if patch.read(1):
        raise PatchError("the patch goes on past its end")


def _apply_group(base: _Base, patch: BinaryIO, out: BinaryIO, group: GroupHeader, base_position: int) -> int:
    rows = io.BytesIO(_unpack(patch, group.table))
    planes = PlaneReader(*(_unpack(patch, sizes) for sizes in (group.gaps, group.values, group.dense)))
    dictionary = base.read(group.dictionary_offset, group.dictionary_bytes)
    literals = io.BytesIO(_unpack(patch, group.literals, dictionary))
    missing_bytes = group.target_bytes
    while missing_bytes:
        segment = _read_segment(rows, base_position, missing_bytes)
        missing_bytes -= segment.length
        if segment.kind is Kind.LITERAL:
            out.write(read_exactly(literals, segment.length))
            continue
        base_position = segment.base_offset + segment.length
        before = base.read(segment.base_offset, segment.length)
        if segment.kind is Kind.DIFFERENCE:
            numbers = [read_varint(rows) for _ in range(segment.width)]
            before = planes.read(before, segment.width, numbers)
        out.write(before)
    planes.verify_end()
    if rows.read(1) or literals.read(1):
        raise PatchError("a group of the patch holds more than it uses")
    return base_position


def _read_segment(rows: BinaryIO, base_position: int, missing_bytes: int) -> Segment:
    head, length = read_varint(rows), read_varint(rows)
    kind, width_index = head & ((1 << _KIND_BITS) - 1), head >> _KIND_BITS
    if kind > Kind.DIFFERENCE or width_index >= len(WIDTHS) or not 0 < length <= missing_bytes:
        raise PatchError(f"the patch has a segment of kind {head} and {length} bytes, with {missing_bytes} missing")
    width = WIDTHS[width_index]
    if kind == Kind.DIFFERENCE and (length % width or length > MAX_DIFFERENCE_BYTES):
        raise PatchError(f"the patch has a difference of {length} bytes in elements of {width}")
    step = 0 if kind == Kind.LITERAL else unfold_sign(read_varint(rows))
    return Segment(Kind(kind), length, base_position + step, width)


def _unpack(patch: BinaryIO, sizes: StreamSizes, dictionary: bytes = b"") -> bytes:
    packed = read_exactly(patch, sizes.packed_bytes)
    if sizes.packed_bytes == sizes.raw_bytes:
        return packed
    try:
        # The frame's own claim is what zstandard makes room for.
        claimed = zstandard.get_frame_parameters(packed, format=zstandard.FORMAT_ZSTD1_MAGICLESS).content_size
        if claimed != sizes.raw_bytes:
            raise PatchError(f"a stream of the patch makes {claimed} bytes, not {sizes.raw_bytes}")
        raw = _decompressor(dictionary).decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PatchError(f"a stream of the patch can't be read: {error}") from error
    if len(raw) != sizes.raw_bytes:
        raise PatchError(f"a stream of the patch makes {len(raw)} bytes, not {sizes.raw_bytes}")
    return raw


def _decompressor(dictionary: bytes) -> zstandard.ZstdDecompressor:
    if not dictionary:
        return zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    content = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=content, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
