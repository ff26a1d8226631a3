"""Bars of several parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward_server.terminal.bars import bar_cells, stacked_bar


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.integers(0, 10_000), st.integers(5, 100))
def test_a_bar_is_never_wider_than_it_should_be(counts: list[int], rest: int, width: int) -> None:
    """And whoever is there is seen."""
    cells = bar_cells(counts, total=sum(counts) + rest, width=width)
    assert sum(cells) <= width
    assert all((cell > 0) == (count > 0) for cell, count in zip(cells, counts, strict=True))


def test_a_bar_of_nothing_is_empty() -> None:
    """A phase that has selected nobody."""
    assert stacked_bar([(0, "green")], total=0, width=5).plain == "░░░░░"


def test_the_parts_stand_in_their_order() -> None:
    """With their styles."""
    bar = stacked_bar([(1, "green"), (1, "red")], total=4, width=8)
    assert bar.plain == "████░░░░"
    assert [(span.start, span.end, span.style) for span in bar.spans[:2]] == [(0, 2, "green"), (2, 4, "red")]
