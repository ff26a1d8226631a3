"""A bar of several parts, as wide as it is told: how many of a whole are where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_FULL: Final = "█"
_EMPTY: Final = "░"


def bar_cells(counts: Sequence[int], *, total: int, width: int) -> list[int]:
    """How many cells each count gets of `width` for `total`; what is not nothing gets a cell, where there is room.

    >>> bar_cells([1, 1], total=4, width=8)
    [2, 2]
    >>> bar_cells([999, 1], total=1000, width=10)
    [9, 1]
    """
    if total <= 0:
        return [0] * len(counts)
    cells = [max(1, round(count * width / total)) if count > 0 else 0 for count in counts]
    while sum(cells) > width:
        widest = cells.index(max(cells))
        cells[widest] -= 1
    return cells


def stacked_bar(parts: Sequence[tuple[int, str]], *, total: int, width: int) -> Text:
    """Parts side by side, each a count and a style; the rest of the total is left empty."""
    cells = bar_cells([count for count, _ in parts], total=total, width=width)
    bar = Text(no_wrap=True)
    for cell, (_, style) in zip(cells, parts, strict=True):
        bar.append(_FULL * cell, style=style)
    return bar.append(_EMPTY * (width - sum(cells)), style="dim")
