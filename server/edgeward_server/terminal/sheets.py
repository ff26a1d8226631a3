"""A sheet: the columns and rows of a table, before it is known where it will be shown.

On a terminal a rich table; anywhere else aligned plain text, the same bytes
whatever the width, so that it can be read by `awk` and compared in tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from edgeward_server.terminal.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult

# What is copied or compared stays whole where a terminal is narrow, as numbers do; everything else folds.
_WHOLE: Final = {"gate", "id", "key", "name", "phase", "state"}
_NARROWEST: Final = 4
_GAP: Final = 2

_STYLES: Final = {
    "online": "green",
    "serving": "green",
    "finished": "green",
    "succeeded": "green",
    "passed": "green",
    "open": "green",
    "running": "cyan",
    "updating": "cyan",
    "probation": "yellow",
    "paused": "yellow",
    "queued": "yellow",
    "pending": "cyan",
    "offline": "yellow",
    "stopped": "yellow",
    "revoked": "red",
    "failed": "red",
    "silent": "red",
    "stuck": "red",
    "rolling_back": "red",
    "rolled_back": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """`columns` and each row are of one length; names of columns that start with `>` are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


def sheet_as_text(sheet: Sheet) -> str:
    """Columns two spaces apart under upper-case names.

    >>> print(sheet_as_text(Sheet(columns=("name", ">bytes"), rows=(("a", "5"), ("bc", "")))))
    NAME  BYTES
    a         5
    bc        -
    """
    header = [_name(column).upper() for column in sheet.columns]
    table = [header, *([_cell(cell) for cell in row] for row in sheet.rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if _is_right(column) else cell.ljust(width)
            for cell, width, column in zip(row, widths, sheet.columns, strict=True)
        ).rstrip()
        for row in table
    ]
    return "\n".join([sheet.title, *lines] if sheet.title else lines)


class _SheetTable:
    """How wide the columns are is decided when the terminal's width is known: rich alone would cut what has no room."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sheet = self._sheet
        widths = column_widths(sheet, room=options.max_width)
        table = Table(
            title=sheet.title or None,
            title_justify="left",
            box=None,
            pad_edge=False,
            header_style="bold",
            width=_width_of(widths),
        )
        for column, width in zip(sheet.columns, widths, strict=True):
            justify: JustifyMethod = "right" if _is_right(column) else "left"
            table.add_column(_name(column).upper(), justify=justify, overflow="fold", width=width)
        for row in sheet.rows:
            table.add_row(*(Text(_cell(cell), style=_STYLES.get(cell, "")) for cell in row))
        yield table


def sheet_as_table(sheet: Sheet) -> RenderableType:
    """For a terminal."""
    return _SheetTable(sheet)


def column_widths(sheet: Sheet, *, room: int) -> list[int]:
    """How wide each column is drawn: as it needs, or where there is no room, the widest that may fold gives way."""
    cells = [[_cell(row[i]) for row in sheet.rows] for i in range(len(sheet.columns))]
    longest = [max(map(cell_len, column), default=0) for column in cells]
    widths = [max(cell_len(_name(name)), width) for name, width in zip(sheet.columns, longest, strict=True)]
    least = [
        max(width, min(natural, _NARROWEST)) if _is_right(name) or _name(name) in _WHOLE else min(natural, _NARROWEST)
        for name, width, natural in zip(sheet.columns, longest, widths, strict=True)
    ]
    while _width_of(widths) > room and widths != least:
        foldable = [i for i, width in enumerate(widths) if width > least[i]]
        widths[max(foldable, key=widths.__getitem__)] -= 1
    return widths


def _width_of(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _name(column: str) -> str:
    return column.removeprefix(">")


def _is_right(column: str) -> bool:
    return column.startswith(">")


def _cell(text: str) -> str:
    # A line break from elsewhere must not forge a row.
    return " ".join(text.split()) or NOTHING
