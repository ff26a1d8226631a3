"""What a device tells of itself, kept until the coordinator has it, and what it must know of itself meanwhile.

`Outbox` keeps records on disk and seals them into batches; `Recorder` counts
in memory until it is worth a record; `trials` is what the processes of the device
tell its agent of a version on trial.
"""

from edgeward_agent.telemetry.importance import KINDS, Kind, kind_of
from edgeward_agent.telemetry.outbox import DEFAULT_MAX_BYTES, Outbox
from edgeward_agent.telemetry.recorder import Pair, Recorder
from edgeward_agent.telemetry.store import OutboxSize, SealedBatch
from edgeward_agent.telemetry.trials import (
    FoundTrial,
    Subject,
    Trial,
    TrialFile,
    open_trial,
    read_trials,
    remove_trials,
)

__all__ = [
    "DEFAULT_MAX_BYTES",
    "KINDS",
    "FoundTrial",
    "Kind",
    "Outbox",
    "OutboxSize",
    "Pair",
    "Recorder",
    "SealedBatch",
    "Subject",
    "Trial",
    "TrialFile",
    "kind_of",
    "open_trial",
    "read_trials",
    "remove_trials",
]
