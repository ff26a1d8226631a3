"""The tables of telemetry: the batches as they came, and the sums over them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import DeviceEvent
from edgeward_coordinator.monitoring.summary import ModelKey, add_totals
from edgeward_coordinator.monitoring.sums import DeviceTotals, Envelope, ModelTotals, TimedEvent
from edgeward_coordinator.storage import insert_into, schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row

_BATCH = schema.telemetry_batch
_TOTAL = schema.prediction_total
_COUNTER = schema.device_counter
_EVENT = schema.device_event

# Above this, reading all rows costs less than naming so many devices.
_MAX_NAMED = 500


def lock_device(connection: Connection, device_id: str) -> bool:
    """Keep others from adding to this device's sums until this transaction ends; False: no such device."""
    query = select(schema.device.c.id).where(schema.device.c.id == device_id).with_for_update()
    return connection.execute(query).first() is not None


def insert_batch(
    connection: Connection, device_id: str, envelope: Envelope, *, records: int, received_at: datetime
) -> bool:
    """Store a batch as it came; False where it was there."""
    adding = (
        insert_into(connection, _BATCH)
        .values(
            device_id=device_id,
            epoch=envelope.epoch,
            sequence=envelope.sequence,
            received_at=received_at,
            records=records,
            payload=envelope.payload,
        )
        .on_conflict_do_nothing()
        .returning(_BATCH.c.sequence)
    )
    return connection.execute(adding).first() is not None


def insert_events(
    connection: Connection, device_id: str, envelope: Envelope, events: Iterable[tuple[int, TimedEvent]]
) -> None:
    """Add the events of a new batch."""
    rows = [
        {
            "device_id": device_id,
            "epoch": envelope.epoch,
            "sequence": envelope.sequence,
            "position": position,
            "at": timed.at,
            "kind": timed.event.kind,
            "detail": dict(timed.event.detail),
        }
        for position, timed in events
    ]
    if rows:
        connection.execute(insert(_EVENT), rows)


def add_models(connection: Connection, device_id: str, added: Mapping[ModelKey, ModelTotals]) -> None:
    """Add to the predictions' totals; the caller holds the device's lock, so reading first is safe."""
    if not added:
        return
    stored = {(each.model, each.version, each.flavor): each for each in select_totals(connection, device_id)}
    rows = [
        _row_of(device_id, add_totals(stored[key], totals) if key in stored else totals)
        for key, totals in added.items()
    ]
    statement = insert_into(connection, _TOTAL)
    changed = {name: statement.excluded[name] for name in ("predictions", "calls", "errors", "latency")}
    connection.execute(statement.on_conflict_do_update(index_elements=list(_TOTAL.primary_key), set_=changed), rows)


def add_counters(connection: Connection, device_id: str, added: Mapping[str, float]) -> None:
    """Add to the counters."""
    if not added:
        return
    rows = [{"device_id": device_id, "name": name, "value": value} for name, value in added.items()]
    statement = insert_into(connection, _COUNTER)
    summed = {"value": _COUNTER.c.value + statement.excluded.value}
    connection.execute(statement.on_conflict_do_update(index_elements=list(_COUNTER.primary_key), set_=summed), rows)


def select_totals(connection: Connection, device_id: str) -> list[ModelTotals]:
    """A device's totals by model, version and flavor."""
    columns = _TOTAL.c
    query = (
        select(_TOTAL).where(columns.device_id == device_id).order_by(columns.model, columns.version, columns.flavor)
    )
    return [_to_totals(row) for row in connection.execute(query)]


def select_counters(connection: Connection, device_id: str) -> dict[str, float]:
    """A device's counters by name."""
    query = select(_COUNTER.c.name, _COUNTER.c.value).where(_COUNTER.c.device_id == device_id).order_by(_COUNTER.c.name)
    return {row.name: row.value for row in connection.execute(query)}


def select_events(connection: Connection, device_id: str, *, limit: int) -> list[TimedEvent]:
    """A device's events, the newest first."""
    columns = _EVENT.c
    query = (
        select(columns.at, columns.kind, columns.detail)
        .where(columns.device_id == device_id)
        .order_by(columns.at.desc(), columns.epoch.desc(), columns.sequence.desc(), columns.position.desc())
        .limit(limit)
    )
    return [
        TimedEvent(at=row.at, event=DeviceEvent(kind=row.kind, detail=row.detail)) for row in connection.execute(query)
    ]


def select_device_totals(connection: Connection, device_ids: Collection[str]) -> dict[str, DeviceTotals]:
    """Totals over all models of those devices that answered anything."""
    columns = _TOTAL.c
    query = select(
        columns.device_id,
        func.sum(columns.predictions).label("predictions"),
        func.sum(columns.errors).label("errors"),
    ).group_by(columns.device_id)
    if len(device_ids) <= _MAX_NAMED:
        query = query.where(columns.device_id.in_(device_ids))
    return {
        row.device_id: DeviceTotals(predictions=int(row.predictions), errors=int(row.errors))
        for row in connection.execute(query)
    }


def _row_of(device_id: str, totals: ModelTotals) -> dict[str, Any]:
    latency = totals.latency
    return {
        "device_id": device_id,
        "model": totals.model,
        "version": totals.version,
        "flavor": totals.flavor,
        "predictions": totals.predictions,
        "calls": totals.calls,
        "errors": totals.errors,
        "latency": {
            "counts": {str(index): count for index, count in sorted(latency.counts.items())},
            "zeros": latency.zeros,
            "sum_s": latency.sum_s,
        },
    }


def _to_totals(row: Row[Any]) -> ModelTotals:
    latency = row.latency
    counts = Counter({int(index): count for index, count in latency["counts"].items()})
    return ModelTotals(
        model=row.model,
        version=row.version,
        flavor=row.flavor,
        predictions=row.predictions,
        calls=row.calls,
        errors=row.errors,
        latency=LatencyHistogram(counts=counts, zeros=latency["zeros"], sum_s=latency["sum_s"]),
    )
