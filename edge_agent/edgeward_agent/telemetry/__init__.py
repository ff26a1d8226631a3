"""What a device tells of itself, kept until the coordinator has it.

`Outbox` keeps records on disk and seals them into batches; `Recorder` counts
predictions in memory until they are worth a record.
"""

from edgeward_agent.telemetry.importance import KINDS, Kind, kind_of
from edgeward_agent.telemetry.outbox import DEFAULT_MAX_BYTES, Outbox
from edgeward_agent.telemetry.recorder import Recorder
from edgeward_agent.telemetry.store import OutboxSize, SealedBatch

__all__ = ["DEFAULT_MAX_BYTES", "KINDS", "Kind", "Outbox", "OutboxSize", "Recorder", "SealedBatch", "kind_of"]
