"""The tables of telemetry: the batches as they came, and the sums over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Float, cast, func, insert, select

from edgeward.protocol.telemetry import DeviceEvent
from edgeward_coordinator.monitoring import summary
from edgeward_coordinator.monitoring.documents import latency_from_document, latency_to_document, merge_documents
from edgeward_coordinator.monitoring.sums import ComparisonTotals, DeviceTotals, Envelope, ModelTotals, TimedEvent
from edgeward_coordinator.storage import insert_into, schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row, Select

    from edgeward.protocol.latency import LatencyHistogram

_BATCH = schema.telemetry_batch
_TOTAL = schema.prediction_total
_COMPARISON = schema.comparison_total
_COUNTER = schema.device_counter
_EVENT = schema.device_event

# Above this, reading all rows costs less than naming so many devices.
_MAX_NAMED = 500
_SUMMED = ("predictions", "calls", "errors", "latency", "labelled", "correct")
_COMPARED = ("rows", "agreed", "calls", "errors", "skipped", "latency")


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


def add_models(connection: Connection, device_id: str, added: Mapping[summary.ModelKey, ModelTotals]) -> None:
    """Add to the predictions' totals; the caller holds the device's lock, so reading first is safe."""
    if not added:
        return
    stored = {(each.model, each.version, each.flavor): each for each in select_totals(connection, device_id)}
    rows = [
        _row_of(device_id, summary.add_totals(stored[key], totals) if key in stored else totals)
        for key, totals in added.items()
    ]
    statement = insert_into(connection, _TOTAL)
    changed = {name: statement.excluded[name] for name in _SUMMED}
    connection.execute(statement.on_conflict_do_update(index_elements=list(_TOTAL.primary_key), set_=changed), rows)


def add_comparisons(
    connection: Connection, device_id: str, added: Mapping[summary.ComparisonKey, ComparisonTotals]
) -> None:
    """Add to the comparisons' totals; under the device's lock likewise."""
    if not added:
        return
    query = select(_COMPARISON).where(_COMPARISON.c.device_id == device_id)
    stored = {_key_of(each): each for each in map(_to_comparison, connection.execute(query))}
    rows = [
        _row_of_comparison(device_id, summary.add_comparisons(stored[key], totals) if key in stored else totals)
        for key, totals in added.items()
    ]
    statement = insert_into(connection, _COMPARISON)
    changed = {name: statement.excluded[name] for name in _COMPARED}
    upsert = statement.on_conflict_do_update(index_elements=list(_COMPARISON.primary_key), set_=changed)
    connection.execute(upsert, rows)


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
    # As floats, which are exact as long as a device counts what it does: a sum of the integers of one
    # that counts nonsense would overflow, and fail the list of all devices.
    query = select(
        columns.device_id,
        func.sum(cast(columns.predictions, Float)).label("predictions"),
        func.sum(cast(columns.errors, Float)).label("errors"),
    ).group_by(columns.device_id)
    if len(device_ids) <= _MAX_NAMED:
        query = query.where(columns.device_id.in_(device_ids))
    return {
        row.device_id: DeviceTotals(predictions=int(row.predictions), errors=int(row.errors))
        for row in connection.execute(query)
    }


def select_version_totals(
    connection: Connection, model: str, versions: Collection[int], device_ids: Sequence[str]
) -> list[tuple[str, ModelTotals]]:
    """What each of these devices answered with these versions."""
    query = select(_TOTAL).where(_TOTAL.c.model == model, _TOTAL.c.version.in_(versions))
    rows = _rows_of_devices(connection, query, _TOTAL.c.device_id, device_ids)
    return [(row.device_id, _to_totals(row)) for row in rows]


def select_comparisons(
    connection: Connection, model: str, candidate_version: int, device_ids: Sequence[str]
) -> list[tuple[str, ComparisonTotals]]:
    """What each of these devices answered with this version as a candidate, beside whatever version."""
    query = select(_COMPARISON).where(
        _COMPARISON.c.model == model, _COMPARISON.c.candidate_version == candidate_version
    )
    rows = _rows_of_devices(connection, query, _COMPARISON.c.device_id, device_ids)
    return [(row.device_id, _to_comparison(row)) for row in rows]


def sum_version_totals(
    connection: Connection, model: str, versions: Collection[int], device_ids: Sequence[str], *, with_latency: bool
) -> list[ModelTotals]:
    """What these devices answered together, by version and flavor.

    Added up here and not by the database, whose sums of a hostile device's counts would overflow. The latencies
    cost more than all the rest: they are left out where nobody asks for them.
    """
    keys = (_TOTAL.c.version, _TOTAL.c.flavor)
    numbers = [_TOTAL.c[name] for name in _SUMMED if name != "latency"]
    query = select(*keys, *numbers, *([_TOTAL.c.latency] if with_latency else []))
    query = query.where(_TOTAL.c.model == model, _TOTAL.c.version.in_(versions))
    sums = _sums(_rows_of_devices(connection, query, _TOTAL.c.device_id, device_ids), keys=2, numbers=len(numbers))
    return [
        ModelTotals(
            model=model,
            version=version,
            flavor=flavor,
            latency=latency,
            **{column.name: number for column, number in zip(numbers, counted, strict=True)},
        )
        for (version, flavor), (counted, latency) in sums.items()
    ]


def sum_comparisons(
    connection: Connection, model: str, candidate_version: int, device_ids: Sequence[str], *, with_latency: bool
) -> list[ComparisonTotals]:
    """What these devices answered together with this version as a candidate, by version beside it and flavor."""
    keys = (_COMPARISON.c.version, _COMPARISON.c.candidate_flavor)
    numbers = [_COMPARISON.c[name] for name in _COMPARED if name != "latency"]
    query = select(*keys, *numbers, *([_COMPARISON.c.latency] if with_latency else []))
    query = query.where(_COMPARISON.c.model == model, _COMPARISON.c.candidate_version == candidate_version)
    sums = _sums(_rows_of_devices(connection, query, _COMPARISON.c.device_id, device_ids), keys=2, numbers=len(numbers))
    return [
        ComparisonTotals(
            model=model,
            version=version,
            candidate_version=candidate_version,
            candidate_flavor=flavor,
            latency=latency,
            **{column.name: number for column, number in zip(numbers, counted, strict=True)},
        )
        for (version, flavor), (counted, latency) in sums.items()
    ]


def _sums(
    rows: Iterable[Row[Any]], *, keys: int, numbers: int
) -> dict[tuple[Any, ...], tuple[list[int], LatencyHistogram]]:
    """Rows of keys, numbers and perhaps latencies added up by key; with as little as can be done for each row."""
    counted: dict[tuple[Any, ...], list[int]] = {}
    latencies: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[:keys])
        so_far = counted.setdefault(key, [0] * numbers)
        for position, number in enumerate(row[keys : keys + numbers]):
            so_far[position] += number
        latencies.setdefault(key, []).extend(row[keys + numbers :])
    return {key: (counted[key], merge_documents(latencies[key])) for key in counted}


def _rows_of_devices(
    connection: Connection, query: Select[Any], column: ColumnElement[str], device_ids: Sequence[str]
) -> Iterator[Row[Any]]:
    for start in range(0, len(device_ids), _MAX_NAMED):
        yield from connection.execute(query.where(column.in_(device_ids[start : start + _MAX_NAMED])))


def _key_of(totals: ComparisonTotals) -> summary.ComparisonKey:
    return (totals.model, totals.version, totals.candidate_version, totals.candidate_flavor)


def _row_of(device_id: str, totals: ModelTotals) -> dict[str, Any]:
    return {
        "device_id": device_id,
        "model": totals.model,
        "version": totals.version,
        "flavor": totals.flavor,
        "predictions": totals.predictions,
        "calls": totals.calls,
        "errors": totals.errors,
        "latency": latency_to_document(totals.latency),
        "labelled": totals.labelled,
        "correct": totals.correct,
    }


def _row_of_comparison(device_id: str, totals: ComparisonTotals) -> dict[str, Any]:
    return {
        "device_id": device_id,
        "model": totals.model,
        "version": totals.version,
        "candidate_version": totals.candidate_version,
        "candidate_flavor": totals.candidate_flavor,
        "rows": totals.rows,
        "agreed": totals.agreed,
        "calls": totals.calls,
        "errors": totals.errors,
        "skipped": totals.skipped,
        "latency": latency_to_document(totals.latency),
    }


def _to_totals(row: Row[Any]) -> ModelTotals:
    return ModelTotals(
        model=row.model,
        version=row.version,
        flavor=row.flavor,
        predictions=row.predictions,
        calls=row.calls,
        errors=row.errors,
        latency=latency_from_document(row.latency),
        labelled=row.labelled,
        correct=row.correct,
    )


def _to_comparison(row: Row[Any]) -> ComparisonTotals:
    return ComparisonTotals(
        model=row.model,
        version=row.version,
        candidate_version=row.candidate_version,
        candidate_flavor=row.candidate_flavor,
        rows=row.rows,
        agreed=row.agreed,
        calls=row.calls,
        errors=row.errors,
        skipped=row.skipped,
        latency=latency_from_document(row.latency),
    )
