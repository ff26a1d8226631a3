"""What a run is: its specification (run.json), its rounds, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import ConfigValue
    from edgeward_coordinator.aggregation.states import RunState

DEFAULT_ROUND_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What was asked for; fixed once the run exists.

    Flower knows runs and nodes by integers: the run's is its id read as a
    hexadecimal number, and so is a device's.
    """

    run_id: str
    app: str
    group: str
    serverapp: str
    """The object reference of the ServerApp, `module:attribute`."""
    rounds: int
    """As the app's configuration says; 0 where it does not."""
    run_config: Mapping[str, ConfigValue]
    """The app's own settings with the overrides of this run."""
    seed: int
    bundle_digest: Digest
    bundle_bytes: int
    model: str
    min_devices: int
    round_timeout_s: float

    @property
    def number(self) -> int:
        """The run's number for Flower."""
        return int(self.run_id, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One exchange with the cohort; `asked` less `answered` and `failed` stayed silent."""

    call: int
    number: int
    phase: str
    asked: int
    answered: int
    failed: int
    metrics: Mapping[str, float]
    took_s: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """How a run stands."""

    run_id: str
    app: str
    group: str
    state: RunState
    rounds: int
    seed: int
    bundle_digest: Digest
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None
    model: str
    version: int
    """Of the model that came out; 0 while there is none."""
    error: str
    activity: str
    """What the run does now, in words."""
    rounds_log: tuple[RoundRecord, ...] = field(default=())

    @property
    def rounds_done(self) -> int:
        """The highest round whose training has closed (of any phase, where the app has no training)."""
        trained = [entry.number for entry in self.rounds_log if entry.phase.split(".")[0] == "train"]
        return max(trained or [entry.number for entry in self.rounds_log], default=0)
