"""What rollouts keep as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.latency import LatencyHistogram
from edgeward_coordinator.rollouts.documents import (
    baseline_from_document,
    former_from_document,
    history_to_document,
    phases_from_document,
    phases_to_document,
)
from edgeward_coordinator.rollouts.evidence import ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.members import Baseline, FormerAssignment, Member
from edgeward_coordinator.rollouts.rollout import DeviceState, GateResult, GateState, PhaseRecord

AT = datetime(2026, 3, 1, tzinfo=UTC)

_counts = st.integers(0, 2**63)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_latencies = st.builds(
    lambda counts, zeros, sum_s: LatencyHistogram(counts=Counter(counts), zeros=zeros, sum_s=sum_s),
    st.dictionaries(st.integers(-8000, 8000), st.integers(1, 2**40), max_size=4),
    _counts,
    _finite,
)
_versions = st.builds(
    VersionEvidence,
    calls=_counts,
    predictions=_counts,
    errors=_counts,
    labelled=_counts,
    correct=_counts,
    latency=_latencies,
)
_shadows = st.builds(
    ShadowEvidence, rows=_counts, agreed=_counts, calls=_counts, errors=_counts, skipped=_counts, latency=_latencies
)
_instants = st.none() | st.datetimes(timezones=st.just(UTC))
_gates = st.builds(
    GateResult,
    name=st.text(),
    state=st.sampled_from(GateState),
    value=_finite,
    limit=_finite,
    evidence=_finite,
    evidence_needed=_finite,
    text=st.text(),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_records = st.builds(
    PhaseRecord,
    started_at=_instants,
    ended_at=_instants,
    passed=st.none() | st.booleans(),
    gates=st.lists(_gates, max_size=3).map(tuple),
    memory=st.none() | st.dictionaries(st.text(), _json, max_size=3),
)


def member(baseline: Baseline | None = None, former: FormerAssignment | None = None) -> Member:
    """One with this history."""
    return Member(
        device_id="d1",
        phase=0,
        state=DeviceState.UPDATING,
        error="",
        admitted_at=AT,
        changed_at=AT,
        release=1,
        baseline=baseline,
        former=former,
    )


@given(st.lists(_records, max_size=3))
def test_phases_come_back_as_they_were(records: list[PhaseRecord]) -> None:
    """Through JSON, whatever the gates carry."""
    document = json.loads(json.dumps(phases_to_document(records), allow_nan=False))
    assert phases_from_document(document) == tuple(records)


def test_numbers_that_json_does_not_know_are_the_next_best() -> None:
    """An e-value past all numbers is the largest one: the databases refuse infinity."""
    gate = GateResult(
        name="ab",
        state=GateState.FAILED,
        value=math.nan,
        limit=-math.inf,
        evidence=math.inf,
        evidence_needed=20.0,
        text="",
    )
    ((kept,),) = (record.gates for record in phases_from_document(phases_to_document([PhaseRecord(gates=(gate,))])))
    assert (kept.value, kept.limit, kept.evidence) == (0.0, -sys.float_info.max, sys.float_info.max)


@given(_versions, _versions, _shadows, st.none() | st.integers(1, 99))
def test_histories_come_back_as_they_were(
    new: VersionEvidence, old: VersionEvidence, shadow: ShadowEvidence, version: int | None
) -> None:
    """What a device had answered, and what it ran."""
    baseline, former = Baseline(new=new, old=old, shadow=shadow), FormerAssignment(rollout_id="r", version=version)
    document = json.loads(json.dumps(history_to_document(member(baseline, former))))
    assert (baseline_from_document(document) or Baseline()) == baseline
    assert former_from_document(document) == former


def test_most_members_have_no_history() -> None:
    """It takes no room."""
    assert history_to_document(member()) == {}
    assert baseline_from_document({}) is None
    assert former_from_document({}) is None
