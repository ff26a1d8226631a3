"""What the fleet's messages look like as tables and facts; pure.

`ShowInstant` decides whether an instant is shown as an age or as itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from edgeward.protocol.errors import WireError
from edgeward.protocol.instants import instant_from_timestamp
from edgeward.protocol.model import TensorSpec
from edgeward.protocol.telemetry import latency_from_message
from edgeward_server.terminal.formats import (
    NOTHING,
    format_bytes,
    format_duration,
    format_latency,
    format_pairs,
    format_ratio,
)
from edgeward_server.terminal.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.message import Message

    from edgeward.v1 import (
        access_pb2,
        agent_pb2,
        audit_pb2,
        deployment_pb2,
        federation_pb2,
        fleet_pb2,
        model_pb2,
        registry_pb2,
    )

ShowInstant = Callable[[datetime | None], str]
Facts = list[tuple[str, str]]

_SHORT_HASH: Final = 12
_MAX_METRICS: Final = 6
# What weighs the metrics is none.
_WEIGHTS: Final = frozenset({"num-examples"})


def instant_in(message: Message, field: str) -> datetime | None:
    """The instant in a field; None where it is not set."""
    return instant_from_timestamp(getattr(message, field)) if message.HasField(field) else None


def devices_sheet(devices: Iterable[fleet_pb2.Device], show: ShowInstant) -> Sheet:
    """The fleet, a device a row."""
    rows = [
        (
            device.name,
            device.id,
            device.group,
            device.state,
            _models_in_short(device.reported),
            str(device.predictions),
            str(device.prediction_errors),
            f"{device.reported.generation}/{device.desired_generation}",
            show(instant_in(device, "last_seen_at")),
        )
        for device in devices
    ]
    columns = ("name", "id", "group", "state", "models", ">predictions", ">errors", ">generation", "last seen")
    return Sheet(columns=columns, rows=rows)


def device_facts(device: fleet_pb2.Device, show: ShowInstant) -> Facts:
    """What a device is and how it is."""
    inventory = device.inventory
    runtimes = ", ".join(f"{runtime.name} {runtime.version}" for runtime in inventory.runtimes)
    facts = [
        ("name", device.name),
        ("id", device.id),
        ("group", device.group),
        ("state", device.state),
        ("labels", format_pairs(device.labels)),
        ("enrolled", show(instant_in(device, "enrolled_at"))),
        ("last seen", show(instant_in(device, "last_seen_at"))),
        ("certificate until", show(instant_in(device, "certificate_not_after"))),
        ("generation", f"{device.reported.generation} of {device.desired_generation}"),
    ]
    if device.HasField("inventory"):
        facts += [
            ("agent", f"{inventory.agent_version} on Python {inventory.python}"),
            ("machine", f"{inventory.architecture}, {inventory.cores} cores, {format_bytes(inventory.memory_bytes)}"),
            ("system", inventory.system),
            ("runtimes", runtimes),
            ("can train", "yes" if inventory.can_train else "no"),
        ]
    if device.HasField("heartbeat"):
        beat = device.heartbeat
        facts += [
            ("memory of agent", format_bytes(beat.resident_bytes)),
            ("outbox", f"{beat.outbox_records} records, {format_bytes(beat.outbox_bytes)}"),
        ]
    return facts


def reported_sheet(reported: agent_pb2.ReportedState) -> Sheet:
    """What a device says it runs."""
    rows = [
        (
            model.model,
            str(model.version) if model.version else NOTHING,
            str(model.wanted_version) if model.wanted_version else NOTHING,
            model.flavor,
            model.runtime,
            model.state,
            model.error,
        )
        for model in reported.models
    ]
    return Sheet(
        columns=("model", ">version", ">wanted", "flavor", "runtime", "state", "error"), rows=rows, title="Models"
    )


def totals_sheet(totals: Iterable[fleet_pb2.ModelTotals]) -> Sheet:
    """What each model answered on a device, with its latency."""
    rows = []
    for total in totals:
        median, worst = _quantiles(total.latency)
        rows.append(
            (
                f"{total.model}:{total.version}",
                total.flavor,
                str(total.predictions),
                str(total.calls),
                str(total.errors),
                median,
                worst,
            )
        )
    columns = ("model", "flavor", ">predictions", ">calls", ">errors", ">p50", ">p99")
    return Sheet(columns=columns, rows=rows, title="Totals")


def counters_sheet(counters: Mapping[str, float]) -> Sheet:
    """The additive counters of a device."""
    rows = [(name, f"{value:g}" if value < 1e6 else f"{value:.0f}") for name, value in sorted(counters.items())]
    return Sheet(columns=("counter", ">sum"), rows=rows, title="Counters")


def events_sheet(events: Iterable[fleet_pb2.TimedEvent], show: ShowInstant) -> Sheet:
    """What happened on a device, newest first."""
    rows = [(show(instant_in(timed, "at")), timed.event.kind, format_pairs(timed.event.detail)) for timed in events]
    return Sheet(columns=("at", "event", "detail"), rows=rows, title="Events")


def models_sheet(models: Iterable[registry_pb2.ModelSummary], show: ShowInstant) -> Sheet:
    """The registry, a model a row."""
    rows = [
        (model.name, str(model.newest_version), ", ".join(model.flavors), show(instant_in(model, "created_at")))
        for model in models
    ]
    return Sheet(columns=("name", ">newest", "flavors", "since"), rows=rows)


def version_facts(version: registry_pb2.ModelVersion, show: ShowInstant) -> Facts:
    """Where a version comes from, and what it takes and gives."""
    lineage = version.lineage
    facts = [
        ("version", f"{version.model}:{version.version}"),
        ("created", f"{show(instant_in(version, 'created_at'))} by {version.created_by}"),
    ]
    from_where = [
        ("parent", f"{version.model}:{lineage.parent_version}" if lineage.parent_version else ""),
        ("run", lineage.run_id),
        ("job", lineage.job_id),
        ("code", lineage.code_digest[:_SHORT_HASH]),
        ("data", lineage.data_digest[:_SHORT_HASH]),
        ("environment", lineage.environment_digest[:_SHORT_HASH]),
        ("note", lineage.note),
    ]
    return facts + [(name, value) for name, value in from_where if value]


def flavors_sheet(flavors: Iterable[registry_pb2.RegisteredFlavor]) -> Sheet:
    """Size, accuracy and latency of each flavor; who approved it, whether it is signed, how small its updates are."""
    rows = []
    for registered in flavors:
        flavor, evaluation = registered.flavor, registered.evaluation
        is_evaluated = evaluation.examples > 0
        rows.append(
            (
                flavor.name,
                format_bytes(flavor.total_bytes),
                format_ratio(evaluation.accuracy) if is_evaluated else NOTHING,
                format_latency(evaluation.latency_p50_s),
                evaluation.runtime,
                "yes" if flavor.golden_sha256 else "no",
                registered.approved_by if registered.HasField("approved_at") else "no",
                "yes" if registered.HasField("signed_at") else "no",
                _patches_in_short(registered.patches),
                flavor.sha256[:_SHORT_HASH],
            )
        )
    columns = ("flavor", ">size", ">accuracy", ">p50", "runtime", "golden", "approved", "signed", "patches", "sha256")
    return Sheet(columns=columns, rows=rows)


def signature_sheet(flavor: model_pb2.Flavor) -> Sheet:
    """The inputs and outputs of a flavor; `?` is a dynamic axis."""
    sides = (("input", flavor.signature.inputs), ("output", flavor.signature.outputs))
    rows = [(side, tensor.name, tensor.dtype, _shape(tensor)) for side, tensors in sides for tensor in tensors]
    return Sheet(columns=("side", "name", "dtype", "shape"), rows=rows, title=f"Signature of {flavor.name}")


def deployments_sheet(deployments: Iterable[deployment_pb2.Deployment], show: ShowInstant) -> Sheet:
    """Which group runs what, and how far it is."""
    rows = [
        (
            each.group,
            f"{each.model}:{each.version}",
            str(each.devices),
            str(each.serving),
            str(each.failed),
            str(each.generation),
            show(instant_in(each, "created_at")),
            each.created_by,
        )
        for each in deployments
    ]
    columns = ("group", "model", ">devices", ">serving", ">failed", ">generation", "since", "by")
    return Sheet(columns=columns, rows=rows)


def runs_sheet(runs: Iterable[federation_pb2.Run], show: ShowInstant) -> Sheet:
    """The runs, one a row."""
    rows = [
        (
            run.id,
            run.app,
            run.group,
            run.state,
            f"{run.rounds_done}/{run.rounds}",
            f"{run.model}:{run.version}" if run.version else NOTHING,
            show(instant_in(run, "created_at")),
            run.created_by,
        )
        for run in runs
    ]
    return Sheet(columns=("id", "app", "group", "state", ">rounds", "version", "since", "by"), rows=rows)


def run_facts(run: federation_pb2.Run, show: ShowInstant) -> Facts:
    """One run."""
    facts = [
        ("run", run.id),
        ("app", run.app),
        ("group", run.group),
        ("state", run.state),
        ("activity", run.activity),
        ("rounds", f"{run.rounds_done} of {run.rounds}"),
        ("seed", str(run.seed)),
        ("code", run.bundle_sha256[:_SHORT_HASH]),
        ("created", f"{show(instant_in(run, 'created_at'))} by {run.created_by}"),
        ("took", _took(run)),
        ("version", f"{run.model}:{run.version}" if run.version else NOTHING),
    ]
    return [*facts, ("error", run.error)] if run.error else facts


def rounds_sheet(rounds: Sequence[federation_pb2.Round]) -> Sheet:
    """The exchanges of a run, with a column for each metric that any of them has."""
    metrics = sorted({name for each in rounds for name in each.metrics} - _WEIGHTS)[:_MAX_METRICS]
    rows = [
        (
            str(each.number),
            each.phase,
            f"{each.answered}/{each.asked}",
            *(f"{each.metrics[name]:.4g}" if name in each.metrics else NOTHING for name in metrics),
            f"{each.took_s:.1f} s",
            format_bytes(each.bytes_up + each.bytes_down),
        )
        for each in rounds
    ]
    columns = (">round", "phase", ">answered", *(f">{name}" for name in metrics), ">time", ">traffic")
    return Sheet(columns=columns, rows=rows)


def round_in_words(each: federation_pb2.Round, rounds: int) -> str:
    """One exchange as a line, for where nothing is drawn anew."""
    names = sorted(set(each.metrics) - _WEIGHTS)[:_MAX_METRICS]
    metrics = ", ".join(f"{name} {each.metrics[name]:.4g}" for name in names)
    words = f"round {each.number}/{rounds} {each.phase}: {each.answered} of {each.asked} answered"
    return f"{words} in {each.took_s:.1f} s" + (f"; {metrics}" if metrics else "")


def tokens_sheet(tokens: Iterable[access_pb2.OperatorToken], show: ShowInstant) -> Sheet:
    """Who may operate the fleet."""
    rows = [
        (
            token.id,
            token.name,
            token.kind,
            token.role,
            "revoked" if token.HasField("revoked_at") else "valid",
            show(instant_in(token, "created_at")),
            show(instant_in(token, "expires_at")) if token.HasField("expires_at") else "never",
        )
        for token in tokens
    ]
    return Sheet(columns=("id", "name", "kind", "role", "state", "created", "expires"), rows=rows)


def audit_sheet(entries: Iterable[audit_pb2.AuditEntry], show: ShowInstant) -> Sheet:
    """The audit log, oldest first."""
    rows = [
        (
            str(entry.number),
            show(instant_in(entry, "at")),
            entry.actor,
            entry.action,
            entry.subject,
            entry.detail_json,
            entry.hash[:_SHORT_HASH],
        )
        for entry in entries
    ]
    return Sheet(columns=(">number", "at", "actor", "action", "subject", "detail", "hash"), rows=rows)


def _patches_in_short(patches: Iterable[registry_pb2.Patch]) -> str:
    return ", ".join(f"{format_bytes(patch.total_bytes)} from {patch.base_version}" for patch in patches)


def _models_in_short(reported: agent_pb2.ReportedState) -> str:
    shown = []
    for model in reported.models:
        serves = f"{model.model}:{model.version} {model.flavor}" if model.version else model.model
        shown.append(serves if model.state == "serving" else f"{serves} ({model.state})")
        if model.HasField("candidate"):
            shown.append(f"{model.model}:{model.candidate.version} as {model.candidate.mode} ({model.candidate.state})")
    return ", ".join(shown)


def _quantiles(latency: agent_pb2.LatencyBuckets) -> tuple[str, str]:
    try:
        histogram = latency_from_message(latency)
    except WireError:  # of a newer server: the rest of the row is still worth showing
        return NOTHING, NOTHING
    return format_latency(histogram.quantile(0.5)), format_latency(histogram.quantile(0.99))


def _shape(tensor: model_pb2.Tensor) -> str:
    shape = tuple(None if axis < 0 else axis for axis in tensor.shape)
    return TensorSpec(name=tensor.name, dtype=tensor.dtype, shape=shape).describe_shape()


def _took(run: federation_pb2.Run) -> str:
    started, ended = instant_in(run, "started_at"), instant_in(run, "ended_at")
    return format_duration(ended - started) if started and ended else NOTHING
