"""Values of the protocol's dataclasses, drawn by Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from edgeward.protocol.digests import Digest
from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.model import FORMATS, PRECISIONS, Flavor, Signature, TensorSpec
from edgeward.protocol.state import (
    CandidateMode,
    DesiredCandidate,
    DesiredModel,
    DesiredState,
    Heartbeat,
    Hello,
    Inventory,
    ModelState,
    ProbationRules,
    ReportedCandidate,
    ReportedModel,
    ReportedState,
    RunInvitation,
    RuntimeInfo,
    Welcome,
)
from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    LabelWindow,
    PredictionWindow,
    ResourceSample,
    TelemetryRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.protocol.tensors import Array

# What protobuf strings, JSON and zip names all take: no lone surrogates, no null.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
COUNTS = st.integers(0, 2**32 - 1)
LARGE_COUNTS = st.integers(0, 2**64 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 (Hypothesis adds the zone)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest)

_DTYPES = st.one_of(
    stnp.boolean_dtypes(), stnp.integer_dtypes(), stnp.unsigned_integer_dtypes(), stnp.floating_dtypes(sizes=(32, 64))
)
SHAPES = stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def arrays(*, finite: bool = False) -> st.SearchStrategy[Array]:
    """Small arrays of the types that models take."""
    elements = {"allow_nan": False, "allow_infinity": False} if finite else None
    return stnp.arrays(_DTYPES, SHAPES, elements=elements)


def tensors(names: st.SearchStrategy[str] = TEXT, **kwargs: Any) -> st.SearchStrategy[dict[str, Array]]:
    """A few named arrays."""
    return st.dictionaries(names, arrays(**kwargs), max_size=4)


def same_tensors(left: dict[str, Array], right: dict[str, Array]) -> bool:
    """Whether names, their order, types, shapes and bits agree."""
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and np.ascontiguousarray(left[name]).tobytes() == np.ascontiguousarray(right[name]).tobytes()
        for name in left
    )


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Up to three of them."""
    return st.lists(items, max_size=3).map(_to_tuple)


def _to_tuple(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(items)


TENSOR_SPECS = st.builds(TensorSpec, name=TEXT, dtype=TEXT, shape=tuples(st.none() | st.integers(0, 2**63 - 1)))
SIGNATURES = st.builds(Signature, inputs=tuples(TENSOR_SPECS), outputs=tuples(TENSOR_SPECS))
FLAVORS = st.builds(
    Flavor,
    name=TEXT,
    format=st.sampled_from(FORMATS),
    precision=st.sampled_from(PRECISIONS),
    digest=DIGESTS,
    total_bytes=LARGE_COUNTS,
    golden_digest=st.none() | DIGESTS,
    golden_bytes=LARGE_COUNTS,
    signature=SIGNATURES,
)
RATIOS = st.floats(0, 1)
DESIRED = st.builds(
    DesiredState,
    generation=LARGE_COUNTS,
    models=tuples(
        st.builds(
            DesiredModel,
            model=TEXT,
            version=COUNTS,
            flavors=tuples(FLAVORS),
            release=LARGE_COUNTS,
            probation=st.builds(
                ProbationRules,
                duration=st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds)),
                min_predictions=LARGE_COUNTS,
                max_error_ratio=RATIOS,
            ),
            candidate=st.none()
            | st.builds(
                DesiredCandidate,
                version=COUNTS,
                flavors=tuples(FLAVORS),
                mode=st.sampled_from(CandidateMode),
                share=RATIOS,
            ),
        )
    ),
)
REPORTED = st.builds(
    ReportedState,
    generation=LARGE_COUNTS,
    models=tuples(
        st.builds(
            ReportedModel,
            model=TEXT,
            version=COUNTS,
            flavor=TEXT,
            state=st.sampled_from(ModelState),
            wanted_version=COUNTS,
            runtime=TEXT,
            error=TEXT,
            release=LARGE_COUNTS,
            candidate=st.none()
            | st.builds(
                ReportedCandidate,
                version=COUNTS,
                flavor=TEXT,
                mode=st.sampled_from(CandidateMode),
                state=st.sampled_from(ModelState),
                error=TEXT,
            ),
        )
    ),
)
INVENTORIES = st.builds(
    Inventory,
    agent_version=TEXT,
    architecture=TEXT,
    system=TEXT,
    python=TEXT,
    cores=COUNTS,
    memory_bytes=LARGE_COUNTS,
    runtimes=tuples(st.builds(RuntimeInfo, name=TEXT, version=TEXT)),
    can_train=st.booleans(),
)
HELLOS = st.builds(
    Hello,
    inventory=INVENTORIES,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    reported=REPORTED,
    outbox_records=LARGE_COUNTS,
)
HEARTBEATS = st.builds(
    Heartbeat, at=INSTANTS, outbox_records=LARGE_COUNTS, outbox_bytes=LARGE_COUNTS, resident_bytes=LARGE_COUNTS
)
WELCOMES = st.builds(
    Welcome,
    device_id=TEXT,
    group=TEXT,
    heartbeat_s=st.floats(0, exclude_min=True, allow_infinity=False),
    at=INSTANTS,
)
INVITATIONS = st.builds(
    RunInvitation,
    run_id=TEXT,
    message_id=TEXT,
    message_digest=DIGESTS,
    message_bytes=LARGE_COUNTS,
    bundle_digest=DIGESTS,
    bundle_bytes=LARGE_COUNTS,
    deadline=INSTANTS,
)


@st.composite
def histograms(draw: st.DrawFn) -> LatencyHistogram:
    """Of latencies from nothing to hours."""
    histogram = LatencyHistogram()
    for seconds in draw(st.lists(st.floats(0, 1e4), max_size=10)):
        histogram.add(seconds)
    return histogram


WINDOWS = st.builds(
    PredictionWindow,
    model=TEXT,
    version=COUNTS,
    flavor=TEXT,
    since=INSTANTS,
    until=INSTANTS,
    predictions=LARGE_COUNTS,
    calls=LARGE_COUNTS,
    errors=LARGE_COUNTS,
    latency=histograms(),
)
LABELS = st.builds(
    lambda labelled, wrong, **rest: LabelWindow(labelled=labelled + wrong, correct=labelled, **rest),
    labelled=COUNTS,
    wrong=COUNTS,
    model=TEXT,
    version=COUNTS,
    flavor=TEXT,
    since=INSTANTS,
    until=INSTANTS,
)
COMPARISONS = st.builds(
    lambda agreed, others, **rest: ComparisonWindow(rows=agreed + others, agreed=agreed, **rest),
    agreed=COUNTS,
    others=COUNTS,
    model=TEXT,
    version=COUNTS,
    candidate_version=COUNTS,
    candidate_flavor=TEXT,
    since=INSTANTS,
    until=INSTANTS,
    calls=LARGE_COUNTS,
    errors=LARGE_COUNTS,
    skipped=LARGE_COUNTS,
    latency=histograms(),
)
RECORDS = st.builds(
    TelemetryRecord,
    at=INSTANTS,
    body=st.one_of(
        WINDOWS,
        st.builds(DeviceEvent, kind=TEXT, detail=st.dictionaries(TEXT, TEXT, max_size=3)),
        st.builds(ResourceSample, resident_bytes=LARGE_COUNTS, cpu_s=FINITE, disk_free_bytes=LARGE_COUNTS),
        st.builds(CounterIncrements, increments=st.dictionaries(TEXT, FINITE, max_size=3)),
        LABELS,
        COMPARISONS,
    ),
)
