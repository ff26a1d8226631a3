"""Tests of `edgeward_agent.artifacts.pointer`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.digests import Digest
from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward_agent.artifacts import pointer as moves
from edgeward_agent.artifacts.manifest import SLOTS, other_slot
from edgeward_agent.artifacts.pointer import CandidatePointer, Pointer, Probation, decode_pointer, encode_pointer
from tests.protocol.damage import damaged
from tests.protocol.strategies import COUNTS, DIGESTS, INSTANTS

RATIOS = st.floats(0, 1)
RULES = st.builds(
    ProbationRules,
    duration=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=366)),
    min_predictions=COUNTS,
    max_error_ratio=RATIOS,
)
PROBATIONS = st.builds(
    Probation, version=COUNTS, digest=DIGESTS, since=INSTANTS, release=COUNTS, rules=RULES, starts=st.integers(0, 5)
)


@st.composite
def pointers(draw: st.DrawFn) -> Pointer:
    """Whatever can be: the other slot is the former version, a candidate or nothing."""
    slot = draw(st.sampled_from(SLOTS))
    other = other_slot(slot)
    former, candidate = draw(
        st.sampled_from([(None, None), (other, None)])
        | st.builds(
            lambda mode, share: (None, CandidatePointer(slot=other, mode=mode, share=share)),
            st.sampled_from(CandidateMode),
            RATIOS,
        )
    )
    return Pointer(
        slot=slot,
        former=former,
        generation=draw(COUNTS),
        probation=draw(st.none() | PROBATIONS),
        candidate=candidate,
    )


PROBATION = Probation(
    version=3,
    digest=Digest("ab" * 32),
    since=datetime(2026, 1, 1, tzinfo=UTC),
    release=7,
    rules=ProbationRules(),
    starts=1,
)
SAMPLE = Pointer(slot="a", former="b", generation=3, probation=PROBATION)
CANDIDATE = CandidatePointer(slot="b", mode=CandidateMode.AB, share=0.25)


@given(pointers())
def test_round_trip(pointer: Pointer) -> None:
    """What was written is what is read after a restart."""
    assert decode_pointer(encode_pointer(pointer)) == pointer


@given(
    st.binary(max_size=200)
    | damaged([encode_pointer(SAMPLE), encode_pointer(replace(SAMPLE, former=None, candidate=CANDIDATE))])
)
def test_arbitrary_bytes_raise_only_the_wire_error(content: bytes) -> None:
    """A file that a power cut left in any state is readable or a WireError."""
    try:
        pointer = decode_pointer(content)
    except WireError:
        return
    assert decode_pointer(encode_pointer(pointer)) == pointer


VALUES: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.just(10**30)
    | st.floats()
    | st.sampled_from(["", "x", "a", "2026-01-01", "0001-01-01T00:00:00+14:00", "shadow"])
    | st.just([])
    | st.just({})
)


@pytest.mark.parametrize("part", ["", "probation", "candidate"], ids=["pointer", "probation", "candidate"])
@given(data=st.data())
def test_wrong_values_in_sound_json_raise_only_the_wire_error(part: str, data: st.DataObject) -> None:
    """Each field is checked, whatever JSON stands in it."""
    content = json.loads(encode_pointer(replace(SAMPLE, former=None, candidate=CANDIDATE)))
    fields = content[part] if part else content
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    try:
        pointer = decode_pointer(json.dumps(content).encode())
    except WireError:
        return
    assert decode_pointer(encode_pointer(pointer)) == pointer


@pytest.mark.parametrize(
    "change",
    [
        {"former": "a"},
        {"candidate": {"slot": "a", "mode": "ab", "share": 0.5}},
        {"candidate": {"slot": "b", "mode": "ab", "share": 0.5}},
    ],
    ids=["former-serves", "candidate-serves", "candidate-is-former"],
)
def test_a_slot_is_one_thing(change: dict[str, object]) -> None:
    """A pointer that gives one slot two tasks is damaged."""
    content = json.loads(encode_pointer(SAMPLE)) | change
    with pytest.raises(WireError, match="names a slot twice"):
        decode_pointer(json.dumps(content).encode())


@pytest.mark.parametrize("share", ["NaN", "Infinity", "-0.1", "1.1", "true"])
def test_share_that_is_none_is_refused(share: str) -> None:
    """A share is a number from 0 to 1."""
    content = encode_pointer(replace(SAMPLE, former=None, candidate=CANDIDATE)).decode()
    with pytest.raises(WireError, match="'share' is no number from 0 to 1"):
        decode_pointer(content.replace("0.25", share).encode())


class TestMoves:
    """How the pointer may change."""

    @given(pointers(), PROBATIONS | st.none())
    def test_activation_is_a_new_generation(self, pointer: Pointer, probation: Probation | None) -> None:
        """The other slot serves, with what served behind it and no candidate beside it."""
        other = other_slot(pointer.slot)
        after = moves.activate(pointer, other, serial=1, former=pointer.slot, probation=probation)
        assert (after.slot, after.former, after.candidate, after.probation) == (other, pointer.slot, None, probation)
        assert after.generation > pointer.generation

    @given(pointers())
    def test_stepping_back_is_a_new_generation(self, pointer: Pointer) -> None:
        """The other slot serves, proven, with nothing behind it."""
        after = moves.step_back(pointer, other_slot(pointer.slot))
        assert after == Pointer(slot=other_slot(pointer.slot), former=None, generation=pointer.generation + 1)

    @given(pointers())
    def test_all_else_changes_nothing_that_serves(self, pointer: Pointer) -> None:
        """Whoever has loaded the model has no reason to load it again."""
        candidate = CandidatePointer(slot=other_slot(pointer.slot), mode=CandidateMode.SHADOW, share=0.0)
        for after in (
            moves.give_up(pointer, other_slot(pointer.slot)),
            moves.stage(pointer, candidate),
            moves.commit(pointer),
            moves.count_starts(pointer, 1),
        ):
            assert (after.slot, after.generation) == (pointer.slot, pointer.generation)
            assert decode_pointer(encode_pointer(after)) == after

    @given(pointers())
    def test_what_is_given_up_is_nothing(self, pointer: Pointer) -> None:
        """Only the slot that serves is still named."""
        assert moves.give_up(pointer, other_slot(pointer.slot)).slots_in_use == {pointer.slot}

    def test_starts_are_counted_and_taken_back(self) -> None:
        """Never below none, and only on probation."""
        assert _starts(moves.count_starts(SAMPLE, 1)) == 2
        assert _starts(moves.count_starts(SAMPLE, -1)) == 0
        assert _starts(moves.count_starts(moves.count_starts(SAMPLE, -1), -1)) == 0
        committed = moves.commit(SAMPLE)
        assert moves.count_starts(committed, 1) == committed


def _starts(pointer: Pointer) -> int:
    assert pointer.probation is not None
    return pointer.probation.starts
