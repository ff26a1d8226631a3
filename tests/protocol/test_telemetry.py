"""Tests of `edgeward.protocol.telemetry`."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.latency import SCALE, LatencyHistogram
from edgeward.protocol.telemetry import (
    MAX_INFLATED_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RECORDS,
    CounterIncrements,
    PredictionWindow,
    RecordBody,
    ResourceSample,
    TelemetryRecord,
    decode_batch,
    encode_batch,
    latency_from_message,
    seal_records,
    serialize_record,
)
from edgeward.v1 import agent_pb2
from tests.protocol.damage import damaged
from tests.protocol.strategies import RECORDS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = [
    TelemetryRecord(at=NOW, body=CounterIncrements(increments={"offline_s": 3.5})),
    TelemetryRecord(at=NOW, body=ResourceSample(resident_bytes=1, cpu_s=2.0, disk_free_bytes=3)),
]


@given(st.lists(RECORDS, max_size=5))
def test_round_trip(records: list[TelemetryRecord]) -> None:
    """What was sealed comes back, in its order."""
    assert decode_batch(encode_batch(records)) == tuple(records)


@given(st.lists(RECORDS, max_size=5))
def test_serialized_records_seal_into_the_same_bytes(records: list[TelemetryRecord]) -> None:
    """Records that waited one by one make the batch that they would have made together."""
    together = agent_pb2.TelemetryBatch()
    for record in records:
        together.MergeFrom(agent_pb2.TelemetryBatch.FromString(serialize_record(record)))
    payload = seal_records([serialize_record(record) for record in records])
    assert agent_pb2.TelemetryBatch.FromString(zlib.decompress(payload)) == together


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | damaged([encode_batch(BATCH)])
    | (st.binary(max_size=200) | damaged([zlib.decompress(encode_batch(BATCH))])).map(zlib.compress)
)
def test_arbitrary_bytes_raise_only_the_wire_error(payload: bytes) -> None:
    """Whatever opens can be encoded again; all else is a WireError."""
    try:
        records = decode_batch(payload)
    except WireError:
        return
    for record in records:
        if isinstance(record.body, PredictionWindow):
            record.body.latency.quantile(0.99)
    assert decode_batch(encode_batch(records)) == records


@pytest.mark.parametrize(
    "payload",
    [
        b"\0" * (MAX_PAYLOAD_BYTES + 1),
        zlib.compress(b"\0" * (MAX_INFLATED_BYTES + 1)),
        zlib.compress(b"\x0a\x00" * (MAX_RECORDS + 1)),
        encode_batch(BATCH)[:-1],
        encode_batch(BATCH) + b"more",
        zlib.compress(agent_pb2.TelemetryBatch(records=[agent_pb2.TelemetryRecord()]).SerializeToString()),
    ],
    ids=["too-long", "inflates-too-far", "too-many-records", "cut-off", "followed", "of-no-kind"],
)
def test_is_bounded(payload: bytes) -> None:
    """No payload makes the receiver take more than a bounded amount of anything."""
    with pytest.raises(WireError):
        decode_batch(payload)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["counter", "cpu", "latency"])
def test_numbers_are_finite_at_both_ends(number: float, where: str) -> None:
    """One nan would poison a total for ever, so none is recorded and none is believed."""
    bodies: dict[str, RecordBody] = {
        "counter": CounterIncrements(increments={"offline_s": number}),
        "cpu": ResourceSample(resident_bytes=0, cpu_s=number, disk_free_bytes=0),
        "latency": PredictionWindow(
            model="m",
            version=1,
            flavor="f",
            since=NOW,
            until=NOW,
            predictions=1,
            calls=1,
            errors=0,
            latency=LatencyHistogram(sum_s=number),
        ),
    }
    with pytest.raises(WireError, match="telemetry number"):
        serialize_record(TelemetryRecord(at=NOW, body=bodies[where]))


@pytest.mark.parametrize(
    "message",
    [
        agent_pb2.LatencyBuckets(scale=SCALE + 1, counts={0: 1}),
        agent_pb2.LatencyBuckets(scale=SCALE, counts={2**31 - 1: 1}),
        agent_pb2.LatencyBuckets(scale=SCALE, counts={-(2**31): 1}),
    ],
    ids=["scale", "too-high", "too-low"],
)
def test_buckets_that_hold_no_latency_are_refused(message: agent_pb2.LatencyBuckets) -> None:
    """Buckets of another scale don't add up with ours, and those past any float64 have no middle."""
    with pytest.raises(WireError):
        latency_from_message(message)
