"""A sheet: the columns and rows of a table, before it is known where it will be shown.

On a terminal a rich table; anywhere else aligned plain text, the same bytes
whatever the width, so that it can be read by `awk` and compared in tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from edgeward_server.terminal.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

# What gives way where a terminal is narrow; ids and numbers are copied and compared, and stay whole.
_FOLDABLE: Final = {"activity", "detail", "error", "flavors", "models"}

_STYLES: Final = {
    "online": "green",
    "serving": "green",
    "finished": "green",
    "running": "cyan",
    "pending": "cyan",
    "offline": "yellow",
    "stopped": "yellow",
    "revoked": "red",
    "failed": "red",
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


def sheet_as_table(sheet: Sheet) -> Table:
    """For a terminal."""
    table = Table(title=sheet.title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in sheet.columns:
        table.add_column(
            _name(column).upper(),
            justify="right" if _is_right(column) else "left",
            overflow="fold",
            no_wrap=_name(column) not in _FOLDABLE,
        )
    for row in sheet.rows:
        table.add_row(*(Text(_cell(cell), style=_STYLES.get(cell, "")) for cell in row))
    return table


def _name(column: str) -> str:
    return column.removeprefix(">")


def _is_right(column: str) -> bool:
    return column.startswith(">")


def _cell(text: str) -> str:
    # A line break from elsewhere must not forge a row.
    return " ".join(text.split()) or NOTHING
