"""Records for tests, and what a coordinator makes of the batches that it gets."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import (
    CounterIncrements,
    DeviceEvent,
    PredictionWindow,
    RecordBody,
    ResourceSample,
    TelemetryRecord,
    decode_batch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward_agent.telemetry import Kind, SealedBatch

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_record(kind: Kind, number: int, *, padding: int = 0) -> TelemetryRecord:
    """A record that `number_of` tells from every other; `padding` characters longer, which hardly compress."""
    text = Random(number).randbytes((padding + 1) // 2).hex()[:padding]
    bodies: dict[Kind, RecordBody] = {
        "resources": ResourceSample(resident_bytes=number, cpu_s=0.0, disk_free_bytes=0),
        "predictions": PredictionWindow(
            model=f"digits{text}",
            version=1,
            flavor="onnx-int8",
            since=NOW,
            until=NOW,
            predictions=number,
            calls=1,
            errors=0,
            latency=LatencyHistogram(),
        ),
        "counters": CounterIncrements(increments={f"number{text}": float(number)}),
        "events": DeviceEvent(kind="activated", detail={"number": str(number), "text": text}),
    }
    return TelemetryRecord(at=NOW, body=bodies[kind])


def number_of(record: TelemetryRecord) -> int | None:
    """The number that a record was made with; None for those of the outbox itself."""
    match record.body:
        case ResourceSample(resident_bytes=number) | PredictionWindow(predictions=number):
            return number
        case CounterIncrements(increments=increments):
            numbers = [int(value) for name, value in increments.items() if name.startswith("number")]
            return numbers[0] if numbers else None
        case DeviceEvent(detail=detail):
            return int(detail["number"]) if "number" in detail else None
        case _:
            return None


class CoordinatorTables:
    """A small fake of the coordinator: keeps each (epoch, sequence) once."""

    def __init__(self) -> None:
        self._payloads: dict[tuple[str, int], bytes] = {}

    def store(self, batches: Iterable[SealedBatch]) -> list[int]:
        """Commit what is new; a repetition must be the same bytes."""
        committed = []
        for batch in batches:
            name = (batch.epoch, batch.sequence)
            assert self._payloads.setdefault(name, batch.payload) == batch.payload
            committed.append(batch.sequence)
        return committed

    def records(self) -> list[TelemetryRecord]:
        """All that was delivered."""
        return [record for _, payload in sorted(self._payloads.items()) for record in decode_batch(payload)]

    def numbers(self) -> list[int]:
        """The numbers of all that was delivered, in the order of delivery."""
        return [number for record in self.records() if (number := number_of(record)) is not None]

    def dropped(self) -> Counter[str]:
        """What the device says that it dropped, by kind."""
        total: Counter[str] = Counter()
        for record in self.records():
            if isinstance(record.body, CounterIncrements):
                for name, value in record.body.increments.items():
                    if name.startswith("dropped."):
                        total[name.removeprefix("dropped.")] += int(value)
        return total
