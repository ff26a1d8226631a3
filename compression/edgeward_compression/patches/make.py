"""Make a patch, in two ways, of which the smaller is taken and tried out before it is given away.

By tensors, the plan of `plan` is written as differences and copies. With the base
as a dictionary, each group of the target is a literal that zstandard compresses
against the part of the base around the same place; up to 16 MiB that is the whole
base, which is what `zstd --patch-from` does. That takes far longer and is left
out where nearly all of the target was found in the base and the first way saves
half of it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import zstandard

from edgeward.protocol.digests import digest_of_file
from edgeward_compression.patches.apply import apply_patch
from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.format import (
    GROUP_BYTES,
    MAX_DICTIONARY_BYTES,
    MAX_DIFFERENCE_BYTES,
    WIDTHS,
    GroupHeader,
    Header,
    Kind,
    Segment,
    StreamSizes,
    encode_varint,
    fold_sign,
)
from edgeward_compression.patches.plan import Stretch, plan_patch
from edgeward_compression.patches.planes import PlaneWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

Method = Literal["tensors", "dictionary"]

_MIN_DICTIONARY_BYTES: Final = 1 << 20
# Below this a dictionary costs more to announce and to load than it saves.
_MIN_LITERAL_BYTES: Final = 32
_FEW_RATIO, _GOOD_RATIO = 0.01, 0.5
_LEVEL, _LEVEL_OF_LARGE = 19, 9
_LARGE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchInfo:
    """A patch that was made: its length, and which way it was smaller."""

    total_bytes: int
    method: Method


def make_patch(base: Path, target: Path, out: Path) -> PatchInfo:
    """Write the patch that turns one artifact into another; takes seconds, minutes for hundreds of MiB.

    Args:
        base: What a device has.
        target: What it shall have.
        out: Where the patch goes. Files beside it, named after it, are used on the way.

    Raises:
        PatchError: A file is missing or can't be read, or no patch that was made gives the target.
    """
    by_tensors = out.with_name(f"{out.name}.tensors")
    by_dictionary = out.with_name(f"{out.name}.dictionary")
    try:
        methods = _write_trials(base, target, by_tensors, by_dictionary)
        smallest = min(methods, key=lambda path: path.stat().st_size)
        _try_out(base, smallest, target)
        smallest.replace(out)
    except OSError as error:
        raise PatchError(f"no patch from {base.name} to {target.name} can be made: {error}") from error
    finally:
        by_tensors.unlink(missing_ok=True)
        by_dictionary.unlink(missing_ok=True)
    return PatchInfo(total_bytes=out.stat().st_size, method=methods[smallest])


def _write_trials(base: Path, target: Path, by_tensors: Path, by_dictionary: Path) -> dict[Path, Method]:
    base_data, target_data = _map(base), _map(target)
    plan = plan_patch(base_data, target_data)
    _write(base_data, target_data, plan, by_tensors)
    unfound = sum(stretch.length for stretch in plan if not stretch.width)
    found_nearly_all = unfound <= _FEW_RATIO * len(target_data)
    if found_nearly_all and by_tensors.stat().st_size <= _GOOD_RATIO * len(target_data):
        return {by_tensors: "tensors"}
    _write(base_data, target_data, _plan_dictionary(base_data, target_data), by_dictionary)
    return {by_tensors: "tensors", by_dictionary: "dictionary"}


def _plan_dictionary(base: memoryview, target: memoryview) -> list[Stretch]:
    return [
        Stretch(offset, offset * len(base) // len(target), min(GROUP_BYTES, len(target) - offset), 0)
        for offset in range(0, len(target), GROUP_BYTES)
    ]


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        is_empty = not path.stat().st_size
        return memoryview(b"") if is_empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _try_out(base: Path, patch: Path, target: Path) -> None:
    result = patch.with_name(f"{patch.name}.result")
    try:
        apply_patch(base, patch, result, max_bytes=target.stat().st_size)
        if digest_of_file(result) != digest_of_file(target):
            raise PatchError(f"the patch from {base.name} does not give {target.name}")
    finally:
        result.unlink(missing_ok=True)


def _write(base: memoryview, target: memoryview, stretches: list[Stretch], path: Path) -> None:
    level = _LEVEL if len(target) <= _LARGE_BYTES else _LEVEL_OF_LARGE
    with path.open("wb") as file:
        file.write(Header(base_bytes=len(base), target_bytes=len(target)).encode())
        base_position = 0
        for group in _in_groups(stretches):
            writer = _GroupWriter(base, target, base_position, level)
            for stretch in group:
                writer.add(stretch)
            writer.write_to(file)
            base_position = writer.base_position


def _in_groups(stretches: list[Stretch]) -> Iterator[list[Stretch]]:
    """Cut into groups, between elements; a cut loses at most an element, so a group stays far above the least."""
    group: list[Stretch] = []
    room = GROUP_BYTES
    for stretch in stretches:
        left = stretch
        while left.length > room:
            head, left = _cut(left, room)
            group += head
            yield group
            group, room = [], GROUP_BYTES
        group.append(left)
        room -= left.length
    if group:
        yield group


def _cut(stretch: Stretch, length: int) -> tuple[list[Stretch], Stretch]:
    length -= length % max(1, stretch.width)
    head = Stretch(stretch.target_offset, stretch.base_offset, length, stretch.width)
    tail = Stretch(stretch.target_offset + length, stretch.base_offset + length, stretch.length - length, stretch.width)
    return [head] if length else [], tail


class _GroupWriter:
    """Gathers a group's segments and streams."""

    def __init__(self, base: memoryview, target: memoryview, base_position: int, level: int) -> None:
        self.base_position = base_position
        self._base = base
        self._target = target
        self._level = level
        self._segments: list[tuple[Segment, list[int]]] = []
        self._planes = PlaneWriter()
        self._literals: list[bytes] = []
        self._literals_near = 0
        self._target_bytes = 0

    def add(self, stretch: Stretch) -> None:
        """Add a stretch, in pieces that the format takes."""
        self._target_bytes += stretch.length
        while stretch.width and stretch.length > MAX_DIFFERENCE_BYTES:
            (head,), stretch = _cut(stretch, MAX_DIFFERENCE_BYTES)
            self._add_aligned(head)
        if stretch.width:
            self._add_aligned(stretch)
        else:
            self._add_literal(stretch)

    def write_to(self, file: BinaryIO) -> None:
        """Write the group."""
        literals = b"".join(self._literals)
        offset, dictionary = self._choose_dictionary(len(literals))
        planes = self._planes
        raw = [self._table(), b"".join(planes.gaps), b"".join(planes.values), b"".join(planes.dense)]
        packed = [*(_pack(stream, self._level) for stream in raw), _pack(literals, self._level, dictionary)]
        sizes = [
            StreamSizes(raw_bytes=len(a), packed_bytes=len(b)) for a, b in zip([*raw, literals], packed, strict=True)
        ]
        header = GroupHeader(
            target_bytes=self._target_bytes,
            dictionary_bytes=len(dictionary),
            dictionary_offset=offset,
            table=sizes[0],
            gaps=sizes[1],
            values=sizes[2],
            dense=sizes[3],
            literals=sizes[4],
        )
        file.write(header.encode())
        file.writelines(packed)

    def _add_aligned(self, stretch: Stretch) -> None:
        before = bytes(self._base[stretch.base_offset : stretch.base_offset + stretch.length])
        after = bytes(self._target[stretch.target_offset : stretch.target_offset + stretch.length])
        if before == after:
            self._add_copy(stretch)
            return
        numbers = self._planes.write(before, after, stretch.width)
        segment = Segment(Kind.DIFFERENCE, stretch.length, stretch.base_offset, stretch.width)
        self._segments.append((segment, numbers))

    def _add_copy(self, stretch: Stretch) -> None:
        if self._segments:
            last, _ = self._segments[-1]
            if last.kind is Kind.COPY and last.base_offset + last.length == stretch.base_offset:
                longer = Segment(Kind.COPY, last.length + stretch.length, last.base_offset)
                self._segments[-1] = (longer, [])
                return
        self._segments.append((Segment(Kind.COPY, stretch.length, stretch.base_offset), []))

    def _add_literal(self, stretch: Stretch) -> None:
        if not self._literals:
            self._literals_near = stretch.base_offset + stretch.length // 2
        self._literals.append(bytes(self._target[stretch.target_offset : stretch.target_offset + stretch.length]))
        self._segments.append((Segment(Kind.LITERAL, stretch.length, stretch.base_offset), []))

    def _choose_dictionary(self, literal_bytes: int) -> tuple[int, bytes]:
        if literal_bytes < _MIN_LITERAL_BYTES:
            return 0, b""
        length = min(max(_MIN_DICTIONARY_BYTES, 4 * literal_bytes), MAX_DICTIONARY_BYTES, len(self._base))
        offset = min(max(0, self._literals_near - length // 2), len(self._base) - length)
        return offset, bytes(self._base[offset : offset + length])

    def _table(self) -> bytes:
        table = bytearray()
        for segment, numbers in self._segments:
            table += encode_varint(segment.kind | WIDTHS.index(segment.width) << 2)
            table += encode_varint(segment.length)
            if segment.kind is not Kind.LITERAL:
                table += encode_varint(fold_sign(segment.base_offset - self.base_position))
                self.base_position = segment.base_offset + segment.length
            for number in numbers:
                table += encode_varint(number)
        return bytes(table)


def _pack(raw: bytes, level: int, dictionary: bytes = b"") -> bytes:
    if not raw:
        return b""
    size = len(raw) + len(dictionary)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(raw),
        dict_size=len(dictionary),
        window_log=max(zstandard.WINDOWLOG_MIN, (size - 1).bit_length()),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    content = (
        zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if dictionary else None
    )
    packed = zstandard.ZstdCompressor(compression_params=parameters, dict_data=content).compress(raw)
    # Of equal length means not compressed.
    return packed if len(packed) < len(raw) else raw
