"""Telemetry: exactly once, summed, and nothing of it lost."""

from __future__ import annotations

import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    LabelWindow,
    PredictionWindow,
    RecordBody,
    ResourceSample,
    TelemetryRecord,
    encode_batch,
)
from edgeward_coordinator.errors import InvalidArgument, NotFound
from edgeward_coordinator.monitoring import DeviceTotals, Envelope, Telemetry
from edgeward_coordinator.monitoring.store import select_comparisons, sum_comparisons, sum_version_totals
from edgeward_coordinator.storage import Database, schema

if TYPE_CHECKING:
    from tests.conftest import SetClock

_DEVICE, _OTHER = "0123456789abcdef", "fedcba9876543210"
_AT = datetime(2026, 1, 1, 11, tzinfo=UTC)


@pytest.fixture
def telemetry(database: Database) -> Telemetry:
    """Of a fleet of two devices."""
    with database.write() as connection:
        for device_id in (_DEVICE, _OTHER):
            connection.execute(
                insert(schema.device).values(
                    id=device_id,
                    name=device_id,
                    group_name="lab",
                    own_labels={},
                    set_labels={},
                    certificate_serial=device_id,
                    certificate_not_after=_AT,
                    enrollment_key="",
                    enrolled_at=_AT,
                    generation_floor=0,
                )
            )
    return Telemetry(database)


def _window(predictions: int, *, version: int = 1, model: str = "digits", flavor: str = "onnx-int8") -> RecordBody:
    latency = LatencyHistogram()
    for _ in range(predictions):
        latency.add(0.001)
    return PredictionWindow(
        model=model,
        version=version,
        flavor=flavor,
        since=_AT,
        until=_AT,
        predictions=predictions,
        calls=predictions,
        errors=1,
        latency=latency,
    )


def _labels(labelled: int, correct: int, *, version: int = 1, flavor: str = "onnx-int8") -> RecordBody:
    return LabelWindow(
        model="digits", version=version, flavor=flavor, since=_AT, until=_AT, labelled=labelled, correct=correct
    )


def _comparison(
    rows: int, agreed: int, *, calls: int = 1, model: str = "digits", flavor: str = "onnx-int8"
) -> RecordBody:
    latency = LatencyHistogram()
    latency.add(0.002)
    return ComparisonWindow(
        model=model,
        version=1,
        candidate_version=2,
        candidate_flavor=flavor,
        since=_AT,
        until=_AT,
        rows=rows,
        agreed=agreed,
        calls=calls,
        errors=0,
        skipped=3,
        latency=latency,
    )


def _counters(**increments: float) -> RecordBody:
    return CounterIncrements(increments=increments)


def _batch(sequence: int, *bodies: RecordBody, epoch: str = "e1", at: datetime = _AT) -> Envelope:
    payload = encode_batch([TelemetryRecord(at=at, body=body) for body in bodies])
    return Envelope(epoch=epoch, sequence=sequence, payload=payload)


def _stored(database: Database) -> list[tuple[str, str, int, int, bytes]]:
    table = schema.telemetry_batch
    columns = (table.c.device_id, table.c.epoch, table.c.sequence, table.c.records, table.c.payload)
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns[:3]))]


def test_batches_are_stored_as_they_came(telemetry: Telemetry, database: Database) -> None:
    """With the number of records in them."""
    batch = _batch(1, _window(3), _counters(offline_s=2.5))
    assert telemetry.store_batches(_DEVICE, [batch]) == [1]
    assert _stored(database) == [(_DEVICE, "e1", 1, 2, batch.payload)]


def test_windows_add_up_by_model_version_and_flavor(telemetry: Telemetry) -> None:
    """Over windows, batches and calls."""
    telemetry.store_batches(_DEVICE, [_batch(1, _window(3), _window(4)), _batch(2, _window(5, version=2))])
    telemetry.store_batches(_DEVICE, [_batch(3, _window(6), _window(7, flavor="onnx-fp32"))])
    totals = {(each.model, each.version, each.flavor): each for each in telemetry.totals(_DEVICE)}
    first = totals["digits", 1, "onnx-int8"]
    assert (first.predictions, first.calls, first.errors) == (13, 13, 3)
    assert first.latency.total == 13
    assert first.latency.sum_s == pytest.approx(0.013)
    assert totals["digits", 2, "onnx-int8"].predictions == 5
    assert totals["digits", 1, "onnx-fp32"].predictions == 7
    assert len(totals) == 3


def test_labels_join_the_totals_of_what_was_answered(telemetry: Telemetry) -> None:
    """In whatever order they come; who does not say which flavor had answered gets a row for that."""
    telemetry.store_batches(_DEVICE, [_batch(1, _labels(10, 9), _window(4)), _batch(2, _labels(5, 1, flavor=""))])
    telemetry.store_batches(_DEVICE, [_batch(3, _labels(10, 8))])
    unknown, known = telemetry.totals(_DEVICE)
    assert (known.flavor, known.predictions, known.labelled, known.correct) == ("onnx-int8", 4, 20, 17)
    assert (unknown.flavor, unknown.predictions, unknown.labelled, unknown.correct) == ("", 0, 5, 1)


def test_comparisons_add_up(telemetry: Telemetry, database: Database) -> None:
    """By version, candidate and its flavor."""
    telemetry.store_batches(_DEVICE, [_batch(1, _comparison(10, 9), _comparison(5, 5))])
    telemetry.store_batches(_DEVICE, [_batch(2, _comparison(1, 0)), _batch(3, _comparison(7, 7, flavor="onnx-fp32"))])
    with database.read() as connection:
        found = select_comparisons(connection, "digits", 2, [_DEVICE, _OTHER])
    by_flavor = {each.candidate_flavor: (device, each.rows, each.agreed) for device, each in found}
    assert by_flavor == {"onnx-fp32": (_DEVICE, 7, 7), "onnx-int8": (_DEVICE, 16, 14)}
    assert {(each.calls, each.skipped, each.latency.total) for _, each in found} == {(1, 3, 1), (3, 9, 3)}


def test_several_devices_are_added_up_by_version(telemetry: Telemetry, database: Database) -> None:
    """Only those asked for, only those versions; latencies where they are asked for."""
    telemetry.store_batches(_DEVICE, [_batch(1, _window(3), _window(2, version=2), _window(9, version=3))])
    telemetry.store_batches(_OTHER, [_batch(1, _window(4), _comparison(10, 9))])
    with database.read() as connection:
        both = sum_version_totals(connection, "digits", [1, 2], [_DEVICE, _OTHER], with_latency=True)
        one = sum_version_totals(connection, "digits", [1, 2], [_OTHER], with_latency=False)
        compared = sum_comparisons(connection, "digits", 2, [_DEVICE, _OTHER], with_latency=True)
    assert {(each.version, each.calls, each.errors, each.latency.total) for each in both} == {
        (1, 7, 2, 7),
        (2, 2, 1, 2),
    }
    assert [(each.version, each.calls, each.latency.total) for each in one] == [(1, 4, 0)]
    assert [(each.rows, each.agreed, each.latency.total) for each in compared] == [(10, 9, 1)]


def test_devices_that_count_nonsense_can_be_added_up(telemetry: Telemetry, database: Database) -> None:
    """Their sums are past what a column holds, and no error of the database's."""
    for device in (_DEVICE, _OTHER):
        telemetry.store_batches(device, [_batch(1, _window(1), _window(1, version=2))])
    with database.write() as connection:
        connection.execute(update(schema.prediction_total).values(calls=2**63 - 1, predictions=2**63 - 1))
        (total,) = sum_version_totals(connection, "digits", [1], [_DEVICE, _OTHER], with_latency=False)
    assert total.calls == 2 * (2**63 - 1)
    assert telemetry.fleet_totals([_DEVICE])[_DEVICE].predictions == 2**64


def test_counters_add_up(telemetry: Telemetry) -> None:
    """Over batches and calls, each name for itself."""
    telemetry.store_batches(_DEVICE, [_batch(1, _counters(offline_s=1.5, restarts=1), _counters(offline_s=2))])
    telemetry.store_batches(_DEVICE, [_batch(2, _counters(offline_s=0.25))])
    assert telemetry.counters(_DEVICE) == {"offline_s": 3.75, "restarts": 1}


def test_events_come_newest_first(telemetry: Telemetry) -> None:
    """By the device's clock, at most as many as are asked for."""
    for sequence in range(1, 4):
        event = DeviceEvent(kind=f"event-{sequence}", detail={"n": str(sequence)})
        telemetry.store_batches(_DEVICE, [_batch(sequence, event, at=_AT + timedelta(minutes=sequence))])
    newest, second = telemetry.events(_DEVICE, 2)
    assert (newest.event, newest.at) == (DeviceEvent(kind="event-3", detail={"n": "3"}), _AT + timedelta(minutes=3))
    assert second.event.kind == "event-2"


def test_an_events_detail_may_hold_any_text(telemetry: Telemetry) -> None:
    """Also what PostgreSQL takes in no column of text."""
    event = DeviceEvent(kind="error", detail={"a\0b": "c\0d", "\U0001f600": "\x7f\n"})
    telemetry.store_batches(_DEVICE, [_batch(1, event)])
    assert telemetry.events(_DEVICE, 1)[0].event == event


def test_resource_samples_are_kept_in_the_batch(telemetry: Telemetry, database: Database) -> None:
    """They add to nothing."""
    sample = ResourceSample(resident_bytes=1, cpu_s=1.0, disk_free_bytes=1)
    telemetry.store_batches(_DEVICE, [_batch(1, sample)])
    assert [row[3] for row in _stored(database)] == [1]
    assert (telemetry.totals(_DEVICE), telemetry.counters(_DEVICE)) == ([], {})


def test_devices_are_summed_apart(telemetry: Telemetry) -> None:
    """The same sequence of another device is another batch; those that said nothing have totals of zero."""
    telemetry.store_batches(_DEVICE, [_batch(1, _window(3), _window(2, version=2))])
    telemetry.store_batches(_OTHER, [_batch(1, _window(4))])
    assert telemetry.fleet_totals([_DEVICE, _OTHER, "0" * 16]) == {
        _DEVICE: DeviceTotals(predictions=5, errors=2),
        _OTHER: DeviceTotals(predictions=4, errors=1),
        "0" * 16: DeviceTotals(predictions=0, errors=0),
    }


def test_a_large_fleet_is_summed_too(telemetry: Telemetry) -> None:
    """More devices than a statement has room for."""
    telemetry.store_batches(_DEVICE, [_batch(1, _window(3))])
    totals = telemetry.fleet_totals([_DEVICE, *(f"{number:016x}" for number in range(40_000))])
    assert totals[_DEVICE].predictions == 3
    assert len(totals) == 40_001


def test_sending_again_changes_nothing(telemetry: Telemetry, database: Database) -> None:
    """The acknowledgement was lost: it is given again, and nothing counts twice."""
    batches = [_batch(1, _window(3), _counters(n=1)), _batch(2, DeviceEvent(kind="activated", detail={}))]
    for _ in range(3):
        assert telemetry.store_batches(_DEVICE, batches) == [1, 2]
    assert telemetry.totals(_DEVICE)[0].predictions == 3
    assert telemetry.counters(_DEVICE) == {"n": 1}
    assert len(telemetry.events(_DEVICE, 9)) == 1
    assert len(_stored(database)) == 2


def test_twice_in_one_call_counts_once(telemetry: Telemetry) -> None:
    """Of two batches of one name the first is taken."""
    telemetry.store_batches(_DEVICE, [_batch(1, _counters(n=1)), _batch(1, _counters(n=10))])
    assert telemetry.counters(_DEVICE) == {"n": 1}


def test_another_epoch_begins_anew(telemetry: Telemetry) -> None:
    """A device whose outbox was lost counts from one again."""
    telemetry.store_batches(_DEVICE, [_batch(1, _counters(n=1)), _batch(1, _counters(n=1), epoch="e2")])
    assert telemetry.counters(_DEVICE) == {"n": 2}


def test_coordinators_that_get_the_same_batches_at_once_count_them_once(telemetry: Telemetry) -> None:
    """In whatever order each of them has them."""
    batches = [_batch(sequence, _window(2), _counters(n=1), DeviceEvent(kind="e", detail={})) for sequence in range(12)]

    def deliver(seed: int) -> None:
        mine = list(batches)
        random.Random(seed).shuffle(mine)
        for start in range(0, len(mine), 4):
            assert len(telemetry.store_batches(_DEVICE, mine[start : start + 4])) == 4

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deliver, range(8)))
    assert telemetry.totals(_DEVICE)[0].predictions == 24
    assert telemetry.counters(_DEVICE) == {"n": 12}
    assert len(telemetry.events(_DEVICE, 99)) == 12


_FAR = ResourceSample(resident_bytes=1, cpu_s=1.0, disk_free_bytes=1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        zlib.compress(b"\xff" * 50),
        encode_batch([TelemetryRecord(at=_AT, body=_FAR)])[:-3],
        _batch(1, _window(1, version=2**31)).payload,
        _batch(1, _window(1, model="m" * 200)).payload,
        _batch(1, _window(1, model="")).payload,
        _batch(1, _window(1, flavor="a\0b")).payload,
        _batch(1, _labels(2**41, 1)).payload,
        _batch(1, _labels(1, 1, flavor="f" * 65)).payload,
        _batch(1, _comparison(2**41, 1)).payload,
        _batch(1, _comparison(1, 1, calls=2**41)).payload,
        _batch(1, _comparison(1, 1, model="m" * 200)).payload,
        _batch(1, _comparison(1, 1, flavor="")).payload,
        _batch(1, _counters(**{"n" * 100: 1})).payload,
        _batch(1, _counters(n=1e300)).payload,
        _batch(1, _counters(**{f"n{number}": 1 for number in range(1001)})).payload,
        _batch(1, DeviceEvent(kind="k" * 100, detail={})).payload,
        _batch(1, DeviceEvent(kind="k", detail={"x": "x" * 20_000})).payload,
    ],
    ids=[
        "empty",
        "garbage",
        "no-batch",
        "cut",
        "version",
        "long-model",
        "no-model",
        "null",
        "many-labels",
        "long-flavor-of-labels",
        "many-rows",
        "many-calls-beside",
        "long-model-beside",
        "no-flavor-beside",
        "long-counter",
        "huge-increment",
        "many-counters",
        "long-kind",
        "long-detail",
    ],
)
def test_an_unreadable_batch_blocks_nothing_and_is_not_lost(
    telemetry: Telemetry, database: Database, payload: bytes
) -> None:
    """It is stored as it came, counted, logged and acknowledged; what comes with it counts."""
    bad = Envelope(epoch="e1", sequence=1, payload=payload)
    with capture_logs() as logs:
        assert telemetry.store_batches(_DEVICE, [bad, _batch(2, _counters(n=1))]) == [1, 2]
    assert telemetry.counters(_DEVICE) == {"batches_unreadable": 1, "n": 1}
    assert telemetry.totals(_DEVICE) == []
    assert _stored(database)[0] == (_DEVICE, "e1", 1, 0, payload)
    assert [(log["log_level"], log["device"], log["sequence"]) for log in logs] == [("warning", _DEVICE, 1)]


def test_an_unreadable_batch_that_comes_again_counts_once(telemetry: Telemetry) -> None:
    """Like any other."""
    bad = Envelope(epoch="e1", sequence=1, payload=b"garbage")
    for _ in range(3):
        telemetry.store_batches(_DEVICE, [bad])
    assert telemetry.counters(_DEVICE) == {"batches_unreadable": 1}


def test_sums_stop_rather_than_overflow(telemetry: Telemetry, database: Database) -> None:
    """A device that counts nonsense must not block its own queue for ever."""
    with database.write() as connection:
        connection.execute(
            insert(schema.prediction_total).values(
                device_id=_DEVICE,
                model="digits",
                version=1,
                flavor="onnx-int8",
                predictions=2**63 - 2,
                calls=0,
                errors=0,
                latency={"counts": {}, "zeros": 0, "sum_s": 0.0},
                labelled=0,
                correct=0,
            )
        )
    telemetry.store_batches(_DEVICE, [_batch(1, _window(5))])
    assert telemetry.totals(_DEVICE)[0].predictions == 2**63 - 1


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_devices_clock_may_be_far_off(telemetry: Telemetry, year: int) -> None:
    """What it says happened, happened at some time."""
    at = datetime(year, 6, 1, tzinfo=UTC)
    telemetry.store_batches(_DEVICE, [_batch(1, DeviceEvent(kind="activated", detail={}), at=at)])
    assert telemetry.events(_DEVICE, 1)[0].at == at


@pytest.mark.parametrize(
    ("epoch", "sequence"),
    [("", 1), ("e" * 33, 1), ("e\0", 1), ("e1", -1), ("e1", 2**63)],
    ids=["no-epoch", "long-epoch", "null", "negative", "huge"],
)
def test_a_batch_without_a_name_is_refused(telemetry: Telemetry, database: Database, epoch: str, sequence: int) -> None:
    """There is nothing to acknowledge it by; nothing of the call is stored."""
    with pytest.raises(InvalidArgument):
        telemetry.store_batches(
            _DEVICE, [_batch(5, _counters(n=1)), Envelope(epoch=epoch, sequence=sequence, payload=b"")]
        )
    assert _stored(database) == []


def test_an_unknown_device_stores_nothing(telemetry: Telemetry, database: Database) -> None:
    """Its batches would belong to nobody."""
    with pytest.raises(NotFound):
        telemetry.store_batches("0" * 16, [_batch(1, _counters(n=1))])
    assert _stored(database) == []


def test_no_batches_are_no_work(telemetry: Telemetry) -> None:
    """An empty report is answered with an empty acknowledgement."""
    assert telemetry.store_batches(_DEVICE, []) == []


def test_when_a_batch_came_is_by_our_clock(telemetry: Telemetry, database: Database, clock: SetClock) -> None:
    """So that old batches can be told from new ones whatever devices think."""
    telemetry.store_batches(_DEVICE, [_batch(1, _counters(n=1), at=datetime(1999, 1, 1, tzinfo=UTC))])
    with database.read() as connection:
        assert connection.execute(select(schema.telemetry_batch.c.received_at)).scalar_one() == clock.now
