"""The first demo: its acts in order, and its closing table."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward_server.demo import fleet, journey
from edgeward_server.demo.fleet import Ports
from edgeward_server.demo.performance import perform
from edgeward_server.demo.verdict import broken_promises, figures_sheet, overall_accuracy
from edgeward_server.terminal.formats import format_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward_server.demo.stage import Stage
    from edgeward_server.terminal.screen import Screen


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`app` is the Flower app that is trained; `keep` leaves the fleet running at the end."""

    folder: Path
    app: Path
    devices: int
    rounds: int
    keep: bool


def run_demo(options: DemoOptions, *, screen: Screen, environment: Mapping[str, str]) -> int:
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


def _play(stage: Stage, options: DemoOptions) -> list[str]:
    names = [f"device-{number}" for number in range(1, options.devices + 1)]
    ports = _open(stage, names)
    _make_model(stage, names, options)
    shares = journey.share_out(stage, names, options.app)
    stage.tell(f"{sum(len(share.labels) for share in shares)} digits that no device has seen are dealt to them")

    left = time.monotonic()
    fleet.stop_coordinator(stage, ports)
    gone = time.monotonic()
    stage.tell(f"the coordinator is stopped ({gone - left:.1f} s); nothing answers on its ports")
    right = journey.predict_offline(stage, shares)
    stage.tell(f"all of them predicted offline, {sum(right.values())} right")

    back_from = time.monotonic()
    fleet.start_coordinator(stage, ports)
    fleet.wait_until_online(stage, names)
    stage.tell("the coordinator is back on the same ports; every device found it by itself")
    journey.wait_for_reports(stage, shares, away_s=back_from - gone)
    stage.tell("every report arrived")

    figures = journey.measure(stage, shares, right)
    stage.screen.say("")
    stage.screen.show(figures_sheet(figures))
    stage.screen.say("")
    problems = broken_promises(figures, devices=options.devices)
    verdict = "some promises are broken" if problems else "every promise is kept"
    stage.tell(f"accuracy on held-out digits {format_ratio(overall_accuracy(figures))}; {verdict}")
    if options.keep and not problems:
        _say_how_to_look_around(stage)
    return problems


def _open(stage: Stage, names: list[str]) -> Ports:
    ports = fleet.start_coordinator(stage, Ports())
    stage.tell(f"the coordinator listens on 127.0.0.1, ports {ports.operators} and {ports.devices}")
    fleet.log_in(stage, ports)
    stage.tell("logged in as the first admin, the fleet CA pinned by its fingerprint")
    fleet.enroll_devices(stage, names)
    stage.tell(f"{len(names)} devices enrolled, each with a key that it made itself")
    journey.start_agents(stage, names)
    stage.tell(f"{len(names)} agents online over mutual TLS, {names[-1]} on TFLite, the others on ONNX Runtime")
    return ports


def _make_model(stage: Stage, names: list[str], options: DemoOptions) -> None:
    stage.tell(f"federated training of {options.app.name} begins: {options.rounds} rounds")
    run = journey.train(stage, options.app, rounds=options.rounds, devices=len(names))
    stage.tell(f"trained {run.model}:{run.version}; compression begins")
    stage.show_edgeward("models", "compress", f"{run.model}:{run.version}")
    stage.tell("compressed and measured; a version must be approved before it may run anywhere")
    stage.show_edgeward("models", "approve", f"{run.model}:{run.version}", "--reason", "measured on held-out digits")
    stage.tell("approved, every flavor signed; deployment to all begins")
    stage.show_edgeward("deploy", f"{run.model}:{run.version}", "--group", fleet.GROUP, "--wait", "--timeout", "2m")
    stage.tell("every device serves it, its golden set checked on its own runtime")


def _say_how_to_look_around(stage: Stage) -> None:
    program = os.path.relpath(stage.program("edgeward"))
    stage.screen.say(
        f"\nThe fleet keeps running. Look around:\n"
        f"  export EDGEWARD_CONFIG_DIR={stage.config_folder}\n"
        f"  {program} devices list\n"
        f"  {program} models show {journey.MODEL}\n"
        f"  {program} audit show\n"
        f"Logs are in {stage.folder / 'logs'}. End it:\n"
        f"  {program} demo --stop --work-dir {os.path.relpath(stage.folder)}"
    )
