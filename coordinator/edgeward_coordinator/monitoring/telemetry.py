"""Telemetry: each batch of a device counts exactly once, whoever sends it again and to whichever coordinator.

A batch is stored under its name, and only the transaction that stored it adds to
the sums. What can't be read is stored too, counted and acknowledged: refusing it
would hold up all that comes behind it for ever, dropping it would lose it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog

from edgeward.protocol.errors import WireError
from edgeward_coordinator.errors import InvalidArgument, NotFound
from edgeward_coordinator.monitoring import store
from edgeward_coordinator.monitoring.summary import BatchSummary, Sums, add_summaries, summarize_batch
from edgeward_coordinator.monitoring.sums import DeviceTotals

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from edgeward_coordinator.monitoring.sums import Envelope, ModelTotals, TimedEvent
    from edgeward_coordinator.storage import Database

UNREADABLE_COUNTER = "batches_unreadable"

_LOG = structlog.stdlib.get_logger(__name__)

_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MAX_SEQUENCE = 2**63 - 1


class Telemetry:
    """What devices reported. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store_batches(self, device_id: str, envelopes: Sequence[Envelope]) -> list[int]:
        """Store batches and add the new ones up, in one transaction.

        Returns:
            The sequence numbers that are committed, hence all of them: those stored before included.

        Raises:
            InvalidArgument: A batch's name can't be one; nothing is stored.
            NotFound: No such device.
            Unavailable: The database does not answer; nothing is stored.
        """
        for envelope in envelopes:
            _verify_name_of(envelope)
        opened = [(envelope, _open(device_id, envelope)) for envelope in envelopes]
        now = self._database.clock()
        with self._database.write() as connection:
            if not store.lock_device(connection, device_id):
                raise NotFound(f"no device {device_id[:80]!r}")
            new = [
                (envelope, summary)
                for envelope, summary in opened
                if store.insert_batch(connection, device_id, envelope, records=summary.records, received_at=now)
            ]
            for envelope, summary in new:
                store.insert_events(connection, device_id, envelope, summary.events)
            sums = add_summaries(summary for _, summary in new)
            store.add_models(connection, device_id, sums.models)
            store.add_comparisons(connection, device_id, sums.comparisons)
            store.add_counters(connection, device_id, sums.counters)
        return sorted({envelope.sequence for envelope in envelopes})

    def totals(self, device_id: str) -> list[ModelTotals]:
        """What a device answered, by model, version and flavor."""
        with self._database.read() as connection:
            return store.select_totals(connection, device_id)

    def counters(self, device_id: str) -> dict[str, float]:
        """A device's additive counters, and how many of its batches could not be read."""
        with self._database.read() as connection:
            return store.select_counters(connection, device_id)

    def events(self, device_id: str, limit: int) -> list[TimedEvent]:
        """The newest `limit` events of a device by its own clock, newest first."""
        with self._database.read() as connection:
            return store.select_events(connection, device_id, limit=limit)

    def fleet_totals(self, device_ids: Collection[str]) -> dict[str, DeviceTotals]:
        """What each of these devices answered, whatever the model."""
        with self._database.read() as connection:
            found = store.select_device_totals(connection, device_ids)
        return {device_id: found.get(device_id, DeviceTotals()) for device_id in device_ids}


def _open(device_id: str, envelope: Envelope) -> BatchSummary:
    try:
        return summarize_batch(envelope.payload)
    except WireError as error:
        _LOG.warning(
            "a telemetry batch can't be read; kept as it came",
            device=device_id,
            epoch=envelope.epoch,
            sequence=envelope.sequence,
            problem=str(error),
        )
        return BatchSummary(records=0, sums=Sums(counters={UNREADABLE_COUNTER: 1.0}))


def _verify_name_of(envelope: Envelope) -> None:
    if _EPOCH.fullmatch(envelope.epoch) is None or not 0 <= envelope.sequence <= _MAX_SEQUENCE:
        raise InvalidArgument(
            f"a telemetry batch can't be named by epoch {envelope.epoch[:40]!r} and sequence {envelope.sequence}"
        )
