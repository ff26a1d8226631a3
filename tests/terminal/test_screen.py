"""What is shown to a person and what to a program."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from edgeward.v1 import federation_pb2
from edgeward_server.cli.runs import _draw, _tell
from edgeward_server.terminal.screen import Screen
from edgeward_server.terminal.sheets import Sheet

SHEET = Sheet(columns=("name", "state"), rows=(("kiosk", "online"),))


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


@pytest.fixture(autouse=True)
def capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests themselves run in."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def changes() -> list[federation_pb2.Run]:
    """A run of one round, as a watcher hears of it."""
    train = federation_pb2.Round(number=1, phase="train", asked=2, answered=2)
    evaluate = federation_pb2.Round(number=1, phase="evaluate", asked=2, answered=2)
    logs: list[list[federation_pb2.Round]] = [[], [train], [train], [train, evaluate]]
    return [federation_pb2.Run(id="r", state="running", rounds=1, rounds_log=log) for log in logs]


def test_a_program_reads_no_colours_and_no_ages() -> None:
    """The same bytes on every machine and at every time."""
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    screen.show(SHEET)
    assert out.getvalue() == "NAME   STATE\nkiosk  online\n"
    assert screen.instant(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"


def test_a_person_sees_colours_and_ages() -> None:
    """Where stdout is a terminal."""
    out = Terminal()
    screen = Screen(out, io.StringIO())
    screen.show(SHEET)
    assert "\x1b[32monline" in out.getvalue()
    assert screen.instant(datetime.now(UTC) - timedelta(hours=3)) == "3 h 0 min ago"


def test_long_lines_are_never_broken_for_a_program() -> None:
    """An enrollment string stays one line."""
    out = io.StringIO()
    Screen(out, io.StringIO()).say("x" * 5000)
    assert out.getvalue() == "x" * 5000 + "\n"


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    """What came from elsewhere can't style the screen."""
    err = io.StringIO()
    Screen(io.StringIO(), err).note("[bold]careful[/bold]")
    assert err.getvalue() == "[bold]careful[/bold]\n"


def test_json_of_a_stream_is_a_line_each() -> None:
    """So that `jq` can follow."""
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    for number in range(2):
        screen.show_json({"number": number}, is_one_of_many=True)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"number": 0}, {"number": 1}]


def test_nobody_is_asked_where_nobody_is() -> None:
    """The answer to a question is no, a secret is empty."""
    screen = Screen(io.StringIO(), io.StringIO())
    assert screen.ask("Trust it?") is False
    assert not screen.ask_secret("Token: ")


def test_a_log_tells_each_round_once() -> None:
    """However often the run is heard of."""
    out = io.StringIO()
    last = _tell(changes(), Screen(out, io.StringIO()))
    assert [line.partition(":")[0] for line in out.getvalue().splitlines()] == ["round 1/1 train", "round 1/1 evaluate"]
    assert last is not None
    assert len(last.rounds_log) == 2


def test_a_terminal_shows_the_bar_and_the_table_of_rounds() -> None:
    """The last picture holds all rounds."""
    out = Terminal()
    _draw(changes(), Screen(out, io.StringIO()))
    picture = out.getvalue()[out.getvalue().rindex("ROUND") :]
    assert "train" in picture
    assert "evaluate" in picture
    assert "0/1" in out.getvalue()
