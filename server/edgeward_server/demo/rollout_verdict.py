"""What the demo of rollouts promises, and whether the measured figures keep it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward_server.terminal.formats import NOTHING, format_bytes, format_ratio
from edgeward_server.terminal.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTraffic:
    """What one device's users counted: requests, those without an answer, rows answered and rows right by version."""

    device: str
    requests: int
    dropped: int
    answered: Mapping[int, int]
    right: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFigures:
    """One rollout as it went.

    `bytes_received` is all that the devices which took the version received
    meanwhile, by their own counters: patch, signed metadata, session. `file_bytes`
    is one whole file. `state` is how the rollout ended, `took_s` until then.
    """

    version: int
    what: str
    state: str
    took_s: float
    bytes_received: int
    file_bytes: int


def served_by(version: int, traffic: Sequence[DeviceTraffic]) -> list[str]:
    """The devices of which any user ever got an answer of a version."""
    return [each.device for each in traffic if each.answered.get(version)]


def accuracy_of(version: int, traffic: Sequence[DeviceTraffic]) -> float | None:
    """The share of a version's answers that were right; None where it gave none."""
    answered = sum(each.answered.get(version, 0) for each in traffic)
    return sum(each.right.get(version, 0) for each in traffic) / answered if answered else None


def rollouts_figures_sheet(rollouts: Sequence[RolloutFigures], traffic: Sequence[DeviceTraffic]) -> Sheet:
    """The closing table."""
    rows = []
    for each in rollouts:
        served, accuracy = len(served_by(each.version, traffic)), accuracy_of(each.version, traffic)
        rows.append(
            (
                str(each.version),
                each.what,
                each.state,
                f"{each.took_s:.1f} s",
                f"{served} of {len(traffic)} ({format_ratio(served / len(traffic)) if traffic else NOTHING})",
                format_ratio(accuracy) if accuracy is not None else NOTHING,
                format_bytes(each.bytes_received),
                format_bytes(each.file_bytes * served),
            )
        )
    columns = (">version", "what", "state", ">took", ">ever served by", ">right", ">received", ">whole files")
    return Sheet(columns=columns, rows=rows)


def broken_promises(
    *,
    good: RolloutFigures,
    bad: RolloutFigures,
    traffic: Sequence[DeviceTraffic],
    serving_at_end: Mapping[str, int],
    canaries: int,
) -> list[str]:
    """What does not hold, in sentences; empty where everything does.

    Args:
        good: The rollout that should succeed.
        bad: The one that should be stopped.
        traffic: Of every device.
        serving_at_end: The version that each device serves in the end.
        canaries: How many devices the first phase may take.
    """
    return [
        *_broken_by_outcome(good, bad, traffic, canaries),
        *_broken_in_the_end(serving_at_end, good.version, len(traffic)),
        *(problem for each in traffic for problem in _broken_by_traffic(each)),
        *(problem for each in (good, bad) for problem in _broken_by_bytes(each, traffic)),
    ]


def _broken_by_outcome(
    good: RolloutFigures, bad: RolloutFigures, traffic: Sequence[DeviceTraffic], canaries: int
) -> Iterator[str]:
    if good.state != "succeeded":
        yield f"the good version's rollout {good.state}"
    if missed := len(traffic) - len(served_by(good.version, traffic)):
        yield f"{missed} devices never served the good version"
    if bad.state != "rolled_back":
        yield f"the bad version's rollout {bad.state}"
    hit = len(served_by(bad.version, traffic))
    if not 0 < hit <= canaries:
        yield f"the bad version served on {hit} devices, where 1 to {canaries} were to try it"


def _broken_in_the_end(serving: Mapping[str, int], version: int, devices: int) -> Iterator[str]:
    if strays := sorted(device for device, served in serving.items() if served != version):
        yield f"not the good version serves in the end on {', '.join(strays)}"
    if len(serving) != devices:
        yield f"{len(serving)} of {devices} devices serve in the end"


def _broken_by_traffic(each: DeviceTraffic) -> Iterator[str]:
    if each.dropped:
        yield f"{each.device} left {each.dropped} of {each.requests} requests without an answer"
    if not each.requests:
        yield f"nobody asked {each.device} anything"


def _broken_by_bytes(each: RolloutFigures, traffic: Sequence[DeviceTraffic]) -> Iterator[str]:
    if each.bytes_received >= each.file_bytes * len(served_by(each.version, traffic)):
        yield f"version {each.version} moved no fewer bytes than whole files"
