"""Files that a kill may cut off anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.aggregation.control import (
    Activity,
    CallClosed,
    CallOpened,
    ControlLine,
    Population,
    PopulationAsked,
    Replied,
    Stop,
    decode_line,
    encode_line,
)
from edgeward_coordinator.aggregation.journal import AppendLog, RunFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("torn", [b"[3", b"[3, 4]", b"\xff"], ids=repr)
def test_line_that_was_cut_off_is_as_if_never_written(tmp_path: Path, torn: bytes) -> None:
    """A log goes on after its last whole line."""
    path = tmp_path / "log.jsonl"
    log = AppendLog(path)
    log.append([1])
    log.append([2])
    with path.open("ab") as file:
        file.write(torn)
    assert AppendLog(path).read() == [[1], [2]]
    log.append([5])
    assert AppendLog(path).read() == [[1], [2], [5]]


def test_call_that_was_never_sent_is_begun_anew(tmp_path: Path) -> None:
    """What a killed process left of a call that nobody saw does not stay."""
    call = RunFolder(tmp_path).call(1)
    (tmp_path / "calls").mkdir()
    call.begin()
    call.write_message("0" * 16, b"half of it")
    call.begin()
    assert call.read_sent() is None
    assert list(call.path.rglob("*.bin")) == []


@given(
    st.one_of(
        st.builds(Population, devices=st.lists(st.text(max_size=20), max_size=5)),
        st.builds(Activity, text=st.text()),
        st.builds(Replied, call=st.integers(), device=st.text()),
        st.builds(CallOpened, call=st.integers()),
        st.builds(CallClosed, call=st.integers()),
        st.sampled_from([PopulationAsked(), Stop()]),
    )
)
def test_control_line_comes_back(line: ControlLine) -> None:
    """What is said is what is heard, on one line."""
    encoded = encode_line(line)
    assert encoded.count(b"\n") == 1
    assert decode_line(encoded) == line


@given(st.binary(max_size=60))
def test_arbitrary_control_line_is_a_value_error(data: bytes) -> None:
    """Bytes of something else raise the one error."""
    with pytest.raises(ValueError, match="not a control line"):
        decode_line(data)
