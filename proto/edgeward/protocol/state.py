"""What a device is, should run and says it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    FETCHING = "fetching"
    CHECKING = "checking"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedModel:
    """One model; `version` is what serves now (0: nothing), `error` why `wanted_version` doesn't."""

    model: str
    version: int
    flavor: str
    state: ModelState
    wanted_version: int
    runtime: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedState:
    """What a device says it runs, and the newest generation that it has acted on in full."""

    generation: int
    models: tuple[ReportedModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredModel:
    """A version that should serve; of `flavors` (best first) the device takes the first that it can run."""

    model: str
    version: int
    flavors: tuple[Flavor, ...]


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
