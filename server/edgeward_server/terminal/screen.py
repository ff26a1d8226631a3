"""Where a command's words go: results to stdout, everything else to stderr; rich on a terminal, plain elsewhere."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from edgeward_server.terminal.formats import format_age, format_instant
from edgeward_server.terminal.sheets import Sheet, sheet_as_table, sheet_as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType


class Screen:
    """The two streams of a command."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = Console(file=out, highlight=False, soft_wrap=True)
        self._err = Console(file=err, highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches stdout, so that it may move."""
        return self._out.is_terminal

    def say(self, text: str) -> None:
        """A line of the result."""
        self._out.print(Text(text))

    def note(self, text: str, *, style: str = "") -> None:
        """A line about the result, or about what goes on."""
        self._err.print(Text(text, style=style))

    def show(self, sheet: Sheet) -> None:
        """A table."""
        if self.is_terminal:
            self._out.print(sheet_as_table(sheet), soft_wrap=False, crop=False)
        else:
            self.say(sheet_as_text(sheet))

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line."""
        width = max((len(name) for name, _ in facts), default=0)
        for name, value in facts:
            self.say(f"{name.ljust(width)}  {' '.join(value.split()) or '-'}")

    def show_json(self, document: object, *, is_one_of_many: bool = False) -> None:
        """Machine output: indented, or one line each where more follow."""
        indent = None if is_one_of_many else 2
        self.say(json.dumps(document, indent=indent, ensure_ascii=False))

    def instant(self, instant: datetime | None) -> str:
        """How long ago for a person; the instant itself for everything else."""
        return format_age(instant, now=datetime.now(UTC)) if self.is_terminal else format_instant(instant)

    @contextmanager
    def live(self) -> Iterator[Callable[[RenderableType], None]]:
        """A part of the terminal that is drawn anew with each call; for terminals only."""
        with Live(Group(), console=self._out, auto_refresh=True, refresh_per_second=4) as live:
            yield live.update

    @contextmanager
    def transfer(self, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A progress bar on stderr for bytes that move; nothing where nobody watches.

        Yields:
            What to call with how many bytes have moved.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._err, disable=not self._err.is_terminal, transient=True) as progress:
            task = progress.add_task(title, total=total_bytes)
            yield lambda done_bytes: progress.update(task, completed=done_bytes)

    def ask(self, question: str) -> bool:
        """Yes or no, from a person; no where there is none."""
        if not self._err.is_terminal:
            return False
        return self._err.input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}

    def ask_secret(self, question: str) -> str:
        """Something that is not shown while it is typed; empty where nobody is there to type it."""
        return self._err.input(question, password=True).strip() if self._err.is_terminal else ""
