"""A database that is away: SQLite's file under another name, which `Database` notices and refuses."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def file_away(path: Path) -> Iterator[None]:
    """The file is elsewhere while the block runs."""
    elsewhere = path.with_name(path.name + ".away")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)
