"""The fleet's messages as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import latency_to_message
from edgeward.v1 import access_pb2, agent_pb2, federation_pb2, fleet_pb2, model_pb2, registry_pb2
from edgeward_server.cli.rendering import (
    device_facts,
    devices_sheet,
    flavors_sheet,
    round_in_words,
    rounds_sheet,
    run_facts,
    signature_sheet,
    tokens_sheet,
    totals_sheet,
    version_facts,
)
from edgeward_server.terminal.formats import format_instant
from edgeward_server.terminal.sheets import sheet_as_text

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def reported(*, state: str, version: int = 2, error: str = "") -> agent_pb2.ReportedState:
    model = agent_pb2.ReportedModel(model="digits", version=version, flavor="onnx-int8", state=state, error=error)
    return agent_pb2.ReportedState(generation=3, models=[model])


def test_a_device_is_a_row_that_tells_what_it_serves() -> None:
    """State, model, counters and how far it is from the desired state."""
    device = fleet_pb2.Device(
        id="00ff",
        name="kiosk",
        group="shop",
        state="online",
        predictions=12,
        desired_generation=4,
        last_seen_at=timestamp_from_instant(NOON),
        reported=reported(state="serving"),
    )
    row = sheet_as_text(devices_sheet([device], format_instant)).splitlines()[1]
    expected = "kiosk 00ff shop online digits:2 onnx-int8 12 0 3/4 2026-01-01T12:00:00Z"
    assert row.split() == expected.split()


def test_a_model_that_does_not_serve_shows_its_state() -> None:
    """Failing is never shown as serving."""
    device = fleet_pb2.Device(name="kiosk", reported=reported(state="failed", version=0))
    assert "digits (failed)" in sheet_as_text(devices_sheet([device], format_instant))


def test_a_device_that_never_spoke_has_no_inventory() -> None:
    """Nothing is invented for it."""
    names = [name for name, _ in device_facts(fleet_pb2.Device(id="00ff", state="enrolled"), format_instant)]
    assert "runtimes" not in names
    assert "outbox" not in names


def test_latencies_are_read_from_the_buckets() -> None:
    """The median and the 99th percentile of what was counted."""
    histogram = LatencyHistogram()
    for _ in range(98):
        histogram.add(0.001)
    for _ in range(2):
        histogram.add(0.5)
    totals = fleet_pb2.ModelTotals(model="digits", version=1, latency=latency_to_message(histogram))
    median, worst = totals_sheet([totals]).rows[0][-2:]
    assert 0.95 < float(median.removesuffix(" ms")) < 1.05
    assert 475 < float(worst.removesuffix(" ms")) < 525


def test_latency_of_another_scale_costs_only_its_cells() -> None:
    """A newer server does not break the rest of the table."""
    latency = agent_pb2.LatencyBuckets(scale=9, counts={1: 1})
    row = totals_sheet([fleet_pb2.ModelTotals(model="digits", version=1, predictions=7, latency=latency)]).rows[0]
    assert row[2:] == ("7", "0", "0", "-", "-")


def test_a_flavor_that_was_not_evaluated_claims_no_accuracy() -> None:
    """An absent evaluation is a dash, a measured 0 is 0.0 %."""
    flavor = model_pb2.Flavor(name="onnx-int8", total_bytes=2048)
    measured = registry_pb2.Evaluation(examples=10, accuracy=0.0, latency_p50_s=1e-4, runtime="onnxruntime")
    flavors = [
        registry_pb2.RegisteredFlavor(flavor=flavor),
        registry_pb2.RegisteredFlavor(flavor=flavor, evaluation=measured),
    ]
    assert [row[2:4] for row in flavors_sheet(flavors).rows] == [("-", "-"), ("0.0 %", "100 µs")]


def test_a_dynamic_axis_is_a_question_mark() -> None:
    """Shapes read as in the registry."""
    signature = model_pb2.Signature(inputs=[model_pb2.Tensor(name="x", dtype="float32", shape=[-1, 8, 8])])
    sheet = signature_sheet(model_pb2.Flavor(name="onnx-fp32", signature=signature))
    assert list(sheet.rows) == [("input", "x", "float32", "[?, 8, 8]")]


def test_lineage_shows_only_what_is_known() -> None:
    """A version that came from a run names it; one that was pushed does not."""
    version = registry_pb2.ModelVersion(model="digits", version=2, lineage=registry_pb2.Lineage(run_id="r1"))
    facts = dict(version_facts(version, format_instant))
    assert facts["run"] == "r1"
    assert "parent" not in facts


def test_rounds_have_a_column_for_each_metric_of_any_of_them() -> None:
    """Training and evaluation report different things."""
    rounds = [
        federation_pb2.Round(number=1, phase="train", asked=5, answered=4, metrics={"loss": 0.5, "num-examples": 100}),
        federation_pb2.Round(number=1, phase="evaluate", asked=5, answered=5, metrics={"accuracy": 0.91234}),
    ]
    lines = sheet_as_text(rounds_sheet(rounds)).splitlines()
    assert lines[0].split() == ["ROUND", "PHASE", "ANSWERED", "ACCURACY", "LOSS", "TIME", "TRAFFIC"]
    assert lines[1].split()[:5] == ["1", "train", "4/5", "-", "0.5"]
    assert lines[2].split()[:5] == ["1", "evaluate", "5/5", "0.9123", "-"]


def test_a_round_in_words_says_who_answered_and_how_well() -> None:
    """The line for logs."""
    each = federation_pb2.Round(
        number=2, phase="train", asked=5, answered=4, took_s=1.25, metrics={"loss": 0.5, "num-examples": 9}
    )
    assert round_in_words(each, 10) == "round 2/10 train: 4 of 5 answered in 1.2 s; loss 0.5"


def test_a_failed_run_shows_why_and_how_long_it_took() -> None:
    """The error is a fact of the run."""
    run = federation_pb2.Run(
        id="r1",
        state="failed",
        error="no device answered",
        started_at=timestamp_from_instant(NOON),
        ended_at=timestamp_from_instant(NOON + timedelta(seconds=90)),
    )
    facts = dict(run_facts(run, format_instant))
    assert (facts["error"], facts["took"]) == ("no device answered", "1 min 30 s")


def test_a_revoked_token_is_shown_as_revoked() -> None:
    """And one without expiry as never expiring."""
    tokens = [
        access_pb2.OperatorToken(id="a", revoked_at=timestamp_from_instant(NOON)),
        access_pb2.OperatorToken(id="b", expires_at=timestamp_from_instant(NOON)),
    ]
    rows = tokens_sheet(tokens, format_instant).rows
    assert [(row[4], row[6]) for row in rows] == [("revoked", "never"), ("valid", "2026-01-01T12:00:00Z")]
