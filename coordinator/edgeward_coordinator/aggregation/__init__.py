"""Federated runs: Flower apps over the fleet, durable by replay of their journal.

`Runs` is the domain's face. Files are mailbox and journal at once (`journal`);
one supervisor a run starts the ServerApp's process and tells it of replies; the
modules named `serverapp*` are that process, and alone import Flower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_coordinator.aggregation.records import RoundRecord, RunRecord
from edgeward_coordinator.aggregation.states import RunState

if TYPE_CHECKING:
    from edgeward_coordinator.aggregation.intake import RunRequest
    from edgeward_coordinator.aggregation.runs import DeviceLink, Runs

__all__ = ["DeviceLink", "RoundRecord", "RunRecord", "RunRequest", "RunState", "Runs"]


def __getattr__(name: str) -> object:
    # Late, because the ServerApp's process imports this package too and the database would cost it 27 MiB.
    if name in ("DeviceLink", "RunRequest", "Runs"):
        from edgeward_coordinator.aggregation import runs

        return getattr(runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
