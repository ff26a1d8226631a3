"""What the demo promises, and whether the measured figures keep it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgeward_server.terminal.formats import format_bytes, format_ratio
from edgeward_server.terminal.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_ACCURACY: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """What one device did while the coordinator was away, as measured.

    `predicted` and `right` are counted from the outputs and the labels,
    `reported` is what the coordinator's tables say after it came back, less what
    they said before it left; `dropped_records` is the sum of the device's own
    counters of what it had to drop.
    """

    name: str
    flavor: str
    runtime: str
    predicted: int
    right: int
    reported: int
    bytes_received: int
    offline_s: float
    dropped_records: int

    @property
    def accuracy(self) -> float:
        """The share of right answers; 0 where nothing was predicted."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def lost_records(self) -> int:
        """Predictions that the coordinator never heard of, and records that were dropped."""
        return abs(self.predicted - self.reported) + self.dropped_records


def overall_accuracy(figures: Sequence[DeviceFigures]) -> float:
    """Over all devices' held-out examples."""
    predicted = sum(each.predicted for each in figures)
    return sum(each.right for each in figures) / predicted if predicted else 0.0


def broken_promises(figures: Sequence[DeviceFigures], *, devices: int) -> list[str]:
    """What does not hold, in sentences; empty where everything does."""
    problems = []
    if len(figures) != devices:
        problems.append(f"{len(figures)} of {devices} devices have figures")
    if overall_accuracy(figures) <= LEAST_ACCURACY:
        problems.append(
            f"the accuracy on held-out data is {format_ratio(overall_accuracy(figures))}, "
            f"not above {format_ratio(LEAST_ACCURACY)}"
        )
    for each in figures:
        if not each.predicted:
            problems.append(f"{each.name} predicted nothing while the coordinator was away")
        if each.lost_records:
            problems.append(f"{each.name} lost {each.lost_records} records")
        if each.offline_s <= 0:
            problems.append(f"{each.name} reported no time offline")
        if each.bytes_received <= 0:
            problems.append(f"{each.name} reported no bytes received")
    if not any(each.flavor.startswith("tflite") for each in figures):
        problems.append("no device ran a TFLite flavor")
    return problems


def figures_sheet(figures: Sequence[DeviceFigures]) -> Sheet:
    """The closing table."""
    columns = ("device", "flavor", "runtime", ">predictions", ">accuracy", ">received", ">offline", ">records lost")
    rows = [
        (
            each.name,
            each.flavor,
            each.runtime,
            str(each.reported),
            format_ratio(each.accuracy),
            format_bytes(each.bytes_received),
            f"{each.offline_s:.1f} s",
            str(each.lost_records),
        )
        for each in figures
    ]
    return Sheet(columns=columns, rows=rows)
