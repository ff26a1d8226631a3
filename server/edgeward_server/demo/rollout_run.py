"""The second demo: a good version goes out in phases, a bad one is stopped at the canary and rolled back by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgeward_server.demo import fleet, rollout_acts
from edgeward_server.demo.performance import perform
from edgeward_server.demo.rollout_verdict import (
    DeviceTraffic,
    accuracy_of,
    broken_promises,
    rollouts_figures_sheet,
    served_by,
)
from edgeward_server.terminal.formats import format_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgeward_server.demo.rollout_verdict import RolloutFigures
    from edgeward_server.demo.stage import Stage
    from edgeward_server.terminal.screen import Screen

# A fleet in the field soaks for hours; here a phase takes seconds, and labels come back at once.
_PLAN: Final = """\
[defaults]
soak = "3s"
device_timeout = "60s"
silence = "30s"
evidence_timeout = "2m"
min_predictions = 50
min_accuracy = 0.8
max_accuracy_drop = 0.1
min_labels = 100

[probation]
duration = "1s"

[[phases]]
name = "canary"
devices = 1

[[phases]]
name = "half"
share = 0.5

[[phases]]
name = "everyone"
share = 1.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDemoOptions:
    """`app` is the Flower app whose model and data are used; `keep` leaves the fleet running at the end."""

    folder: Path
    app: Path
    devices: int
    keep: bool


def run_rollout_demo(options: RolloutDemoOptions, *, screen: Screen, environment: Mapping[str, str]) -> int:
    """Play the demo.

    Returns:
        0 if every promise was kept, else 1.
    """
    return perform(
        lambda stage: _play(stage, options),
        folder=options.folder,
        keep=options.keep,
        screen=screen,
        environment=environment,
    )


def _play(stage: Stage, options: RolloutDemoOptions) -> list[str]:
    names = [f"device-{number}" for number in range(1, options.devices + 1)]
    _open(stage, names, options.app)
    sizes = {name: (stage.folder / "versions" / f"{name}.onnx").stat().st_size for name in ("better", "bad")}

    first = rollout_acts.publish(stage, "first", parent=0)
    rollout_acts.deploy_first(stage, first)
    rollout_acts.let_users_ask(stage, names)
    stage.tell("every device serves it, and is asked some 25 times a second; labels come back")

    plan = rollout_acts.write_plan(stage, _PLAN)
    better = rollout_acts.publish(stage, "better", parent=first)
    stage.tell("the good version goes out: one device, then half of them, then all")
    good = rollout_acts.roll_out(stage, better, plan, what="good", file_bytes=sizes["better"])
    stage.tell(f"the good version's rollout {good.state}")

    worse = rollout_acts.publish(stage, "bad", parent=better)
    stage.tell("the bad version goes out by the same plan; it loads, is fast and agrees with its own golden set")
    bad = rollout_acts.roll_out(stage, worse, plan, what="bad", file_bytes=sizes["bad"])
    stage.tell(f"the bad version's rollout was {bad.state.replace('_', ' ')}; nobody had to do anything")

    rollout_acts.wait_until_all_serve(stage, names, better)
    serving = rollout_acts.serving_by_device(stage)
    traffic = rollout_acts.send_users_home(stage, names)
    problems = broken_promises(
        good=good, bad=bad, traffic=traffic, serving_at_end=serving, canaries=rollout_acts.CANARIES
    )
    _close(stage, [good, bad], traffic, problems)
    return problems


def _open(stage: Stage, names: Sequence[str], app: Path) -> None:
    making = rollout_acts.begin_versions(stage, app)
    ports = fleet.start_coordinator(stage, fleet.Ports())
    fleet.log_in(stage, ports)
    fleet.enroll_devices(stage, names)
    rollout_acts.start_agents(stage, names)
    stage.tell(f"a coordinator and {len(names)} agents run, each enrolled with a key of its own")
    accuracies = rollout_acts.finish_versions(stage, making)
    said = ", ".join(f"{name} {format_ratio(accuracy)}" for name, accuracy in accuracies.items())
    stage.tell(f"three versions are made; on held-out digits: {said}")


def _close(
    stage: Stage, rollouts: Sequence[RolloutFigures], traffic: Sequence[DeviceTraffic], problems: Sequence[str]
) -> None:
    stage.screen.say("")
    stage.screen.show(rollouts_figures_sheet(rollouts, traffic))
    stage.screen.say("")
    requests, dropped = sum(each.requests for each in traffic), sum(each.dropped for each in traffic)
    stage.tell(f"{requests} requests were made meanwhile, {dropped} of them without an answer")
    bad = rollouts[-1]
    accuracy = accuracy_of(bad.version, traffic)
    share = len(served_by(bad.version, traffic)) / len(traffic)
    right = f", {format_ratio(accuracy)} of its answers right" if accuracy is not None else ""
    stage.tell(f"the bad version ever served on {format_ratio(share)} of the fleet{right}")
    stage.tell("some promises are broken" if problems else "every promise is kept")
