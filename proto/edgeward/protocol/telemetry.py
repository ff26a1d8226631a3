"""Telemetry records, and sealed batches of them as bytes (zlib of a protobuf `TelemetryBatch`).

A batch is sealed once and sent until it is acknowledged; (device, epoch,
sequence) names it, so sending it again changes nothing.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from edgeward.protocol.errors import WireError
from edgeward.protocol.instants import instant_from_timestamp, timestamp_from_instant
from edgeward.protocol.latency import HIGHEST_BUCKET, LOWEST_BUCKET, SCALE, LatencyHistogram
from edgeward.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

MAX_PAYLOAD_BYTES = 1 << 20
MAX_INFLATED_BYTES = 4 << 20  # parsed, the worst of them takes about 100 MiB
MAX_RECORDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionWindow:
    """What one version answered between two instants; `predictions` counts rows, `latency` is of calls."""

    model: str
    version: int
    flavor: str
    since: datetime
    until: datetime
    predictions: int
    calls: int
    errors: int
    latency: LatencyHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """Something that happened on a device: "activated", "refused", "rolled_back" and the like."""

    kind: str
    detail: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSample:
    """What the agent's process takes; `cpu_s` since it started."""

    resident_bytes: int
    cpu_s: float
    disk_free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterIncrements:
    """Additive counters: "offline_s", "bytes_received", "dropped.predictions" and the like."""

    increments: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelWindow:
    """Labels that came back between two instants: of `labelled` answers of a version `correct` were right."""

    model: str
    version: int
    flavor: str
    since: datetime
    until: datetime
    labelled: int
    correct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonWindow:
    """A candidate beside the version that served, on the same inputs.

    Of `rows` compared `agreed` were answered alike. Of the candidate's `calls`
    `errors` failed; `skipped` more were not made, for the device had no time.
    """

    model: str
    version: int
    candidate_version: int
    candidate_flavor: str
    since: datetime
    until: datetime
    rows: int
    agreed: int
    calls: int
    errors: int
    skipped: int
    latency: LatencyHistogram


RecordBody = PredictionWindow | DeviceEvent | ResourceSample | CounterIncrements | LabelWindow | ComparisonWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryRecord:
    """One record; `at` is by the device's clock."""

    at: datetime
    body: RecordBody


def encode_batch(records: Sequence[TelemetryRecord]) -> bytes:
    """Seal records into a payload."""
    return seal_records([serialize_record(record) for record in records])


def serialize_record(record: TelemetryRecord) -> bytes:
    """One record as it waits to be sealed: a `TelemetryBatch` of one, since protobuf messages merge by concatenation.

    Raises:
        ValueError: A number in it is not finite, a count is negative, or the text can't be encoded.
    """
    batch = agent_pb2.TelemetryBatch(records=[_record_to_message(record)])
    _record_from_message(batch.records[0])
    return batch.SerializeToString()


def seal_records(serialized: Sequence[bytes]) -> bytes:
    """Seal records from `serialize_record` into a payload."""
    return zlib.compress(b"".join(serialized), 6)


def decode_batch(payload: bytes) -> tuple[TelemetryRecord, ...]:
    """Open a payload.

    Raises:
        WireError: Too large, not zlib, not a batch, or a record of no known kind.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"a telemetry batch of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(payload, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise WireError(f"a telemetry batch that does not inflate: {error}") from error
    if inflater.unconsumed_tail or inflater.unused_data or not inflater.eof:
        raise WireError(
            f"a telemetry batch that is cut off, is followed by something, or inflates past {MAX_INFLATED_BYTES} bytes"
        )
    try:
        batch = agent_pb2.TelemetryBatch.FromString(data)
    except DecodeError as error:
        raise WireError("a telemetry batch that is no TelemetryBatch") from error
    if len(batch.records) > MAX_RECORDS:
        raise WireError(f"a telemetry batch of {len(batch.records)} records; at most {MAX_RECORDS} are allowed")
    return tuple(_record_from_message(message) for message in batch.records)


def _record_to_message(record: TelemetryRecord) -> agent_pb2.TelemetryRecord:
    message = agent_pb2.TelemetryRecord(at=timestamp_from_instant(record.at))
    match record.body:
        case PredictionWindow() as window:
            message.predictions.CopyFrom(_window_to_message(window))
        case DeviceEvent(kind=kind, detail=detail):
            message.event.CopyFrom(agent_pb2.DeviceEvent(kind=kind, detail=dict(detail)))
        case ResourceSample() as sample:
            message.resources.CopyFrom(
                agent_pb2.ResourceSample(
                    resident_bytes=sample.resident_bytes, cpu_s=sample.cpu_s, disk_free_bytes=sample.disk_free_bytes
                )
            )
        case CounterIncrements(increments=increments):
            message.counters.CopyFrom(agent_pb2.CounterIncrements(increments=dict(increments)))
        case LabelWindow() as labels:
            message.labels.CopyFrom(_labels_to_message(labels))
        case ComparisonWindow() as comparison:
            message.comparison.CopyFrom(_comparison_to_message(comparison))
    return message


def _record_from_message(message: agent_pb2.TelemetryRecord) -> TelemetryRecord:
    return TelemetryRecord(at=instant_from_timestamp(message.at), body=_body_from_message(message))


def _body_from_message(message: agent_pb2.TelemetryRecord) -> RecordBody:
    match message.WhichOneof("body"):
        case "predictions":
            return _window_from_message(message.predictions)
        case "event":
            return DeviceEvent(kind=message.event.kind, detail=dict(message.event.detail))
        case "resources":
            sample = message.resources
            _verify_finite("cpu_s", sample.cpu_s)
            return ResourceSample(
                resident_bytes=sample.resident_bytes, cpu_s=sample.cpu_s, disk_free_bytes=sample.disk_free_bytes
            )
        case "counters":
            for name, increment in message.counters.increments.items():
                _verify_finite(name, increment)
            return CounterIncrements(increments=dict(message.counters.increments))
        case "labels":
            return _labels_from_message(message.labels)
        case "comparison":
            return _comparison_from_message(message.comparison)
        case _:
            raise WireError("a telemetry record of no known kind")


def _window_to_message(window: PredictionWindow) -> agent_pb2.PredictionWindow:
    return agent_pb2.PredictionWindow(
        model=window.model,
        version=window.version,
        flavor=window.flavor,
        since=timestamp_from_instant(window.since),
        until=timestamp_from_instant(window.until),
        predictions=window.predictions,
        calls=window.calls,
        errors=window.errors,
        latency=latency_to_message(window.latency),
    )


def _window_from_message(message: agent_pb2.PredictionWindow) -> PredictionWindow:
    return PredictionWindow(
        model=message.model,
        version=message.version,
        flavor=message.flavor,
        since=instant_from_timestamp(message.since),
        until=instant_from_timestamp(message.until),
        predictions=message.predictions,
        calls=message.calls,
        errors=message.errors,
        latency=latency_from_message(message.latency),
    )


def _labels_to_message(window: LabelWindow) -> agent_pb2.LabelWindow:
    return agent_pb2.LabelWindow(
        model=window.model,
        version=window.version,
        flavor=window.flavor,
        since=timestamp_from_instant(window.since),
        until=timestamp_from_instant(window.until),
        labelled=window.labelled,
        correct=window.correct,
    )


def _labels_from_message(message: agent_pb2.LabelWindow) -> LabelWindow:
    if message.correct > message.labelled:
        raise WireError(f"{message.correct} right answers of {message.labelled}")
    return LabelWindow(
        model=message.model,
        version=message.version,
        flavor=message.flavor,
        since=instant_from_timestamp(message.since),
        until=instant_from_timestamp(message.until),
        labelled=message.labelled,
        correct=message.correct,
    )


def _comparison_to_message(window: ComparisonWindow) -> agent_pb2.ComparisonWindow:
    return agent_pb2.ComparisonWindow(
        model=window.model,
        version=window.version,
        candidate_version=window.candidate_version,
        candidate_flavor=window.candidate_flavor,
        since=timestamp_from_instant(window.since),
        until=timestamp_from_instant(window.until),
        rows=window.rows,
        agreed=window.agreed,
        calls=window.calls,
        errors=window.errors,
        skipped=window.skipped,
        latency=latency_to_message(window.latency),
    )


def _comparison_from_message(message: agent_pb2.ComparisonWindow) -> ComparisonWindow:
    if message.agreed > message.rows:
        raise WireError(f"{message.agreed} answers alike of {message.rows}")
    return ComparisonWindow(
        model=message.model,
        version=message.version,
        candidate_version=message.candidate_version,
        candidate_flavor=message.candidate_flavor,
        since=instant_from_timestamp(message.since),
        until=instant_from_timestamp(message.until),
        rows=message.rows,
        agreed=message.agreed,
        calls=message.calls,
        errors=message.errors,
        skipped=message.skipped,
        latency=latency_from_message(message.latency),
    )


def latency_to_message(histogram: LatencyHistogram) -> agent_pb2.LatencyBuckets:
    """To its message."""
    return agent_pb2.LatencyBuckets(
        scale=SCALE, counts=dict(histogram.counts), zeros=histogram.zeros, sum_s=histogram.sum_s
    )


def latency_from_message(message: agent_pb2.LatencyBuckets) -> LatencyHistogram:
    """From its message.

    Raises:
        WireError: Buckets of another scale, outside of what a number of seconds can be, or a sum that is no number.
    """
    if message.scale != SCALE and message.counts:
        raise WireError(f"latency buckets of scale {message.scale}, expected {SCALE}")
    for index in message.counts:
        if not LOWEST_BUCKET <= index <= HIGHEST_BUCKET:
            raise WireError(f"latency bucket {index} holds no number of seconds")
    _verify_finite("sum_s", message.sum_s)
    return LatencyHistogram(counts=Counter(dict(message.counts)), zeros=message.zeros, sum_s=message.sum_s)


def _verify_finite(name: str, value: float) -> None:
    # One nan or inf would poison a total for ever.
    if not math.isfinite(value):
        raise WireError(f"telemetry number {name[:80]!r} is {value}")
