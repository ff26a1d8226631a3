"""Tables where nobody watches."""

from __future__ import annotations

from rich.console import Console

from edgeward_server.terminal.sheets import Sheet, column_widths, sheet_as_table, sheet_as_text


def test_columns_are_aligned_by_their_widest_cell() -> None:
    """Names to the left, numbers to the right, nothing at the end of a line."""
    sheet = Sheet(columns=("name", ">count"), rows=(("a", "10"), ("longer", "5")), title="Title")
    assert sheet_as_text(sheet).splitlines() == ["Title", "NAME    COUNT", "a          10", "longer      5"]


def test_a_cell_from_elsewhere_can_not_forge_a_row() -> None:
    """Line breaks in a value become spaces."""
    text = sheet_as_text(Sheet(columns=("name", "error"), rows=(("a", "boom\nb  healthy"),)))
    assert text.splitlines()[1:] == ["a     boom b healthy"]


def test_markup_from_elsewhere_is_shown_as_it_is() -> None:
    """A device named in brackets does not style the table."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(sheet_as_table(Sheet(columns=("name",), rows=(("[red]x[/red]",),))))
    assert "[red]x[/red]" in capture.get()


def test_on_a_narrow_terminal_ids_stay_whole() -> None:
    """What is copied from the screen is complete; long explanations fold."""
    sheet = Sheet(columns=("id", "error"), rows=(("0123456789abcdef", "the disk is full and nothing fits any more"),))
    console = Console(width=40)
    with console.capture() as capture:
        console.print(sheet_as_table(sheet))
    assert "0123456789abcdef" in capture.get()
    assert len(capture.get().splitlines()) > 2


def test_ids_states_and_numbers_keep_their_width_and_the_widest_other_gives_way() -> None:
    """Headings may fold where their column is a number."""
    sheet = Sheet(
        columns=("id", "models", ">predictions", "state"), rows=(("0123456789", "m" * 30, "12345", "online"),)
    )
    assert column_widths(sheet, room=100) == [10, 30, 11, 6]
    assert column_widths(sheet, room=40) == [10, 9, 9, 6]
    assert column_widths(sheet, room=10) == [10, 4, 5, 6]
