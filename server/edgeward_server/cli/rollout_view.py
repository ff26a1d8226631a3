"""The live view of a rollout: phases with bars, the gates of the present one, the devices; within 80 columns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgeward_server.cli.rollout_sheets import (
    change_in_words,
    devices_by_interest,
    present_phase,
    time_since_start,
)
from edgeward_server.terminal.bars import stacked_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rich.console import RenderableType

    from edgeward.v1 import deployment_pb2

_BAR_WIDTH: Final = 20
_MAX_DEVICES: Final = 12

_STYLES: Final = {
    "queued": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "rolling_back": "red",
    "succeeded": "green",
    "rolled_back": "red",
    "aborted": "yellow",
    "passed": "green",
    "failed": "red",
    "open": "green",
    "pending": "yellow",
    "silent": "red",
    "stuck": "red",
    "updating": "cyan",
    "probation": "yellow",
    "waiting": "dim",
    "offline": "dim",
    "returned": "dim",
}


class LiveRollout:
    """A rollout whose time goes on between its changes: rendered anew at each refresh."""

    def __init__(self, rollout: deployment_pb2.Rollout, clock: Callable[[], datetime]) -> None:
        self._rollout = rollout
        self._clock = clock

    def __rich__(self) -> RenderableType:
        return rollout_view(self._rollout, now=self._clock())


def rollout_view(rollout: deployment_pb2.Rollout, *, now: datetime) -> RenderableType:
    """All of it, to be drawn anew with each change."""
    parts: list[RenderableType] = [_head(rollout, now), Text(), _phases(rollout)]
    phase = present_phase(rollout)
    if phase is not None and phase.gates:
        parts += [Text(), _gates(phase)]
    if rollout.devices:
        parts += [Text(), _devices(rollout)]
    return Group(*parts)


def _head(rollout: deployment_pb2.Rollout, now: datetime) -> Text:
    # The screen's own console does not wrap; here a long reason must.
    head = Text(f"{change_in_words(rollout)}  in {rollout.group}  ", no_wrap=False, overflow="fold")
    head.append(rollout.state, style=_STYLES.get(rollout.state, ""))
    head.append(f"  {time_since_start(rollout, now=now)}", style="dim")
    if rollout.reason:
        head.append(f"\n{' '.join(rollout.reason.split())}", style="dim")
    return head


def _phases(rollout: deployment_pb2.Rollout) -> Table:
    table = _table("PHASE", "MODE", "DEVICES", "", ">DONE", "STATE")
    for phase in rollout.phases:
        parts = [
            (phase.succeeded, "green"),
            (phase.on_probation, "yellow"),
            (phase.updating, "cyan"),
            (phase.failed, "red"),
        ]
        bar = stacked_bar(parts, total=phase.selected, width=_BAR_WIDTH)
        done = f"{phase.succeeded}/{phase.selected}" if phase.selected else ""
        table.add_row(Text(phase.name), Text(phase.mode), Text(phase.description), bar, Text(done), _state(phase.state))
    return table


def _gates(phase: deployment_pb2.RolloutPhase) -> Table:
    table = _table(f"GATES OF {phase.name.upper()}", "STATE", "")
    for gate in phase.gates:
        table.add_row(Text(gate.name), _state(gate.state), Text(" ".join(gate.text.split())))
    return table


def _devices(rollout: deployment_pb2.Rollout) -> RenderableType:
    table = _table("DEVICE", "PHASE", "STATE", "")
    devices = devices_by_interest(rollout)
    for device in devices[:_MAX_DEVICES]:
        phase = rollout.phases[device.phase].name if device.phase < len(rollout.phases) else ""
        table.add_row(Text(device.name), Text(phase), _state(device.state), Text(" ".join(device.error.split())))
    hidden = Counter(device.state for device in devices[_MAX_DEVICES:])
    if not hidden:
        return table
    rest = ", ".join(f"{count} {state}" for state, count in hidden.items())
    return Group(table, Text(f"and {rest}", style="dim"))


def _state(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))


def _table(*columns: str) -> Table:
    """Names and states stay whole; the last column, which explains, folds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=column not in {"", "DEVICES"},
            overflow="fold",
        )
    return table
