"""The messages of `FederationService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import federation_pb2
from edgeward_coordinator.aggregation import RunRequest

if TYPE_CHECKING:
    from edgeward_coordinator.aggregation import RoundRecord, RunRecord


def request_from_message(message: federation_pb2.StartRunRequest) -> RunRequest:
    """From its message; the domain checks what it asks for.

    Raises:
        WireError: The bundle's digest is none.
    """
    return RunRequest(
        group=message.group,
        bundle_digest=parse_digest(message.bundle_sha256),
        rounds=message.rounds,
        run_config=dict(message.run_config),
        seed=message.seed,
        model=message.model,
        min_devices=message.min_devices,
        round_timeout_s=message.round_timeout_s,
    )


def run_to_message(run: RunRecord) -> federation_pb2.Run:
    """To its message; an instant that is not known yet is left out."""
    return federation_pb2.Run(
        id=run.run_id,
        app=run.app,
        group=run.group,
        state=run.state.value,
        rounds=run.rounds,
        rounds_done=run.rounds_done,
        seed=run.seed,
        bundle_sha256=run.bundle_digest,
        created_at=timestamp_from_instant(run.created_at),
        started_at=timestamp_from_instant(run.started_at) if run.started_at else None,
        ended_at=timestamp_from_instant(run.ended_at) if run.ended_at else None,
        created_by=run.created_by,
        error=run.error,
        model=run.model,
        version=run.version,
        activity=run.activity,
        rounds_log=[_round_to_message(entry) for entry in run.rounds_log],
    )


def _round_to_message(entry: RoundRecord) -> federation_pb2.Round:
    return federation_pb2.Round(
        number=entry.number,
        phase=entry.phase,
        asked=entry.asked,
        answered=entry.answered,
        failed=entry.failed,
        metrics=dict(entry.metrics),
        took_s=entry.took_s,
        bytes_up=entry.bytes_up,
        bytes_down=entry.bytes_down,
    )
