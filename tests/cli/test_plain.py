"""Messages as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import agent_pb2, fleet_pb2
from edgeward_server.cli.plain import as_plain


def test_numbers_are_numbers_and_what_is_absent_is_null() -> None:
    """64-bit counters can be compared, defaults are there, unset messages are null."""
    plain = as_plain(fleet_pb2.Device(id="a", predictions=2**40))
    assert (plain["predictions"], plain["prediction_errors"], plain["inventory"]) == (2**40, 0, None)


def test_instants_maps_and_lists_are_plain() -> None:
    """Everything in the answer goes through json."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    device = fleet_pb2.Device(
        labels={"room": "3"},
        last_seen_at=timestamp_from_instant(at),
        reported=agent_pb2.ReportedState(models=[agent_pb2.ReportedModel(model="digits")]),
    )
    totals = fleet_pb2.ModelTotals(latency=agent_pb2.LatencyBuckets(counts={-3: 5}))
    event = fleet_pb2.TimedEvent(event=agent_pb2.DeviceEvent(kind="activated", detail={"model": "digits"}))
    answer = fleet_pb2.GetDeviceResponse(device=device, totals=[totals], counters={"offline_s": 1.5}, events=[event])
    plain = json.loads(json.dumps(as_plain(answer)))
    assert plain["device"]["last_seen_at"] == "2026-01-01T00:00:00+00:00"
    assert plain["device"]["labels"] == {"room": "3"}
    assert plain["device"]["reported"]["models"][0]["model"] == "digits"
    assert plain["totals"][0]["latency"]["counts"] == {"-3": 5}
    assert plain["counters"] == {"offline_s": 1.5}
    assert plain["events"][0]["event"]["detail"] == {"model": "digits"}
