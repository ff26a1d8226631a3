"""What a device is, should run and says it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Flavor

# What a Flower app's settings may be.
ConfigValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """A runtime that is installed on a device: "onnxruntime", "ai-edge-litert" or "tflite-runtime"."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a device is."""

    agent_version: str
    architecture: str
    system: str
    python: str
    cores: int
    memory_bytes: int
    runtimes: tuple[RuntimeInfo, ...]
    can_train: bool


class ModelState(StrEnum):
    """Where a device is with a model of its desired state."""

    SERVING = "serving"
    PROBATION = "probation"  # serves, and may still be sent back
    WAITING = "waiting"  # for a time or a link that its owner allows
    FETCHING = "fetching"
    CHECKING = "checking"
    FAILED = "failed"
    REMOVED = "removed"


class CandidateMode(StrEnum):
    """What a candidate does beside the version that serves."""

    SHADOW = "shadow"  # answers the same inputs; its answers are compared and thrown away
    AB = "ab"  # serves a stable share of the requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCandidate:
    """Where a device is with a candidate; SERVING: it takes part."""

    version: int
    flavor: str
    mode: CandidateMode
    state: ModelState
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedModel:
    """One model; `version` is what serves now (0: nothing), `error` why `wanted_version` doesn't.

    `release` is that of the desired model that this is about.
    """

    model: str
    version: int
    flavor: str
    state: ModelState
    wanted_version: int
    runtime: str = ""
    error: str = ""
    candidate: ReportedCandidate | None = None
    release: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedState:
    """What a device says it runs, and the newest generation that it has acted on in full."""

    generation: int
    models: tuple[ReportedModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationRules:
    """When a newly activated version is safe: no sooner than `duration`, nor before `min_predictions` were answered.

    It is sent back where more than `max_error_ratio` of its calls failed.
    """

    duration: timedelta = timedelta(seconds=60)
    min_predictions: int = 0
    max_error_ratio: float = 0.05

    @property
    def asks_anything(self) -> bool:
        """Whether there is anything to wait for; a version that need not prove itself is safe at once."""
        return bool(self.duration or self.min_predictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredCandidate:
    """Another version to run beside the one that serves; `share` of the requests in [0, 1] where it serves too."""

    version: int
    flavors: tuple[Flavor, ...]
    mode: CandidateMode
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredModel:
    """A version that should serve; of `flavors` (best first) the device takes the first that it can run.

    `release` is the generation in which this model was last decided on for this
    device: what was refused or rolled back is tried again under a newer one only.
    """

    model: str
    version: int
    flavors: tuple[Flavor, ...]
    candidate: DesiredCandidate | None = None
    release: int = 0
    probation: ProbationRules = field(default_factory=ProbationRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """All that a device should run; a model that is absent should go."""

    generation: int
    models: tuple[DesiredModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first words of a session."""

    inventory: Inventory
    labels: Mapping[str, str]
    reported: ReportedState
    outbox_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A device is alive; and how full it is."""

    at: datetime
    outbox_records: int
    outbox_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The coordinator's first words."""

    device_id: str
    group: str
    heartbeat_s: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInvitation:
    """A message of a run waits for this device; `run_config` is what the app's settings are in this run."""

    run_id: str
    message_id: str
    message_digest: Digest
    message_bytes: int
    bundle_digest: Digest
    bundle_bytes: int
    deadline: datetime
    run_config: Mapping[str, ConfigValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Nothing more will come for this run."""

    run_id: str
