"""A tensor as a stretch of a model's file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A shorter one is not worth a line of its own in a patch.
MIN_SPAN_BYTES: Final = 64


class MalformedModel(Exception):
    """The file is not of the format that was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One tensor's elements.

    `shape` stands for dtype and dimensions, `width` is the length of an element
    in bytes, of those that `format.WIDTHS` knows.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    length: int
    width: int

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.length
