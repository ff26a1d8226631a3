"""A plan's values: its phases, what must hold in each, and the probation on each device.

The file that people write, and the JSON that is kept, are `plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from edgeward.protocol.state import ProbationRules

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["serve", "shadow", "ab"]
WhenInconclusive = Literal["pass", "fail", "pause"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What must hold on the devices admitted so far; None leaves a gate out."""

    max_failed_ratio: float = 0.0
    """Share of the devices that tried, which may have failed, be silent or stuck; 0: not one."""

    max_error_ratio: float | None = 0.01
    """Calls of the new version that failed, over all of its calls."""

    max_latency_ratio: float | None = None
    """p99 of the new version's calls over that of the old version on the same devices."""

    min_accuracy: float | None = None
    """Share of right answers among those whose labels came back."""

    max_accuracy_drop: float | None = None
    """How far that may lie under the old version's, on the same devices."""

    min_agreement: float | None = None
    """Of a shadow phase: share of the rows that both versions answered alike."""

    min_devices: int = 1
    """Devices that must have succeeded before the phase can pass (all of them, where there are fewer)."""

    min_predictions: int = 0
    """Calls of the new version before its errors, latency and agreement are judged."""

    min_labels: int = 30
    """Labels that must have come back before accuracy is judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One step. Devices are selected by labels where there are any, else by share and count.

    Who was in an earlier phase of the same mode stays in. `ab_share` is the share of requests that
    the new version serves in an "ab" phase; `alpha` the error level of its test.
    """

    name: str
    mode: Mode = "serve"
    devices: int = 0
    share: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    soak: timedelta = timedelta(minutes=10)
    evidence_timeout: timedelta = timedelta(hours=24)
    device_timeout: timedelta = timedelta(minutes=30)
    silence: timedelta = timedelta(minutes=10)
    gates: Gates = field(default_factory=Gates)
    ab_share: float = 0.5
    alpha: float = 0.05
    when_inconclusive: WhenInconclusive = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The phases in their order, and the probation on each device.

    Where the last phase does not serve everyone, `rest_follows` says that those who
    are left get the version at once when it has passed.
    """

    phases: tuple[Phase, ...]
    probation: ProbationRules = field(default_factory=ProbationRules)
    rest_follows: bool = False


def describe_phase(phase: Phase) -> str:
    """Whom a phase takes and what it does with them, in words.

    >>> describe_phase(Phase(name="canary", devices=1, share=0.05))
    '5 % of the devices, at least 1'
    >>> describe_phase(Phase(name="beside", mode="shadow", labels={"site": "hall-3"}))
    'label site=hall-3, as a shadow'
    """
    share = f"{100 * phase.share:.4g} % of the devices" if phase.share < 1 else "all devices"
    least = f"at least {phase.devices}" if phase.devices else ""
    if phase.labels:
        whom = "label " + ", ".join(f"{key}={value}" for key, value in sorted(phase.labels.items()))
    elif phase.share:
        whom = f"{share}, {least}" if least and phase.share < 1 else share
    else:
        whom = f"{phase.devices} device{'s' if phase.devices != 1 else ''}"
    return (
        whom + {"serve": "", "shadow": ", as a shadow", "ab": f", {100 * phase.ab_share:.4g} % of requests"}[phase.mode]
    )
