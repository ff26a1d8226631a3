"""The scenario; see README.md."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import write_results
from benchmarks.rollout.behaviour import CRASHING, SLOW, WRONG, Behaviour
from benchmarks.rollout.coordinator import Cost
from benchmarks.rollout.device import CALLS, REPORT_INTERVAL, USED_EVERY_S
from benchmarks.rollout.fleet import Fleet
from benchmarks.rollout.models import write_versions
from edgeward.v1 import deployment_pb2
from edgeward_server.demo import fleet as demo_fleet
from edgeward_server.demo.stage import COORDINATOR, DemoFailed, Stage
from edgeward_server.terminal.screen import Screen

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

DEVICES, PROCESSES = 1000, 2
HEARTBEAT_S = 15.0
MODEL, GROUP = "perceptron", "bench"
# Of a fleet of devices that is asked for a minute's work, on two cores that everything shares.
WITHIN_S = 240.0

PLAN = """\
[defaults]
soak = "3s"
device_timeout = "10m"
silence = "1m"
evidence_timeout = "4m"
min_predictions = 100
max_latency_ratio = 2.0
min_accuracy = 0.85
max_failed_ratio = 0.02
[[phases]]
name = "canary"
share = 0.01
devices = 5
max_failed_ratio = 0.0
[[phases]]
name = "quarter"
share = 0.25
[[phases]]
name = "everyone"
share = 1.0
[probation]
duration = "2s"
"""

BAD: Mapping[str, Behaviour] = {"wrong numbers": WRONG, "slow": SLOW, "crashing": CRASHING}


def run() -> None:
    """Measure, print the tables, write `results.json`."""
    figures = measure(devices=DEVICES)
    ratios = _ratios(figures)
    _show(figures, ratios)
    print(f"written: {write_results('rollout', ratios=ratios, figures=figures)}")


def measure(*, devices: int) -> dict[str, Any]:
    """Everything, of a fleet of this size."""
    # The machine's own settings may forbid bytecode, which would be measured instead.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="edgeward-rollout-") as name:
        folder = Path(name)
        stage = Stage(folder / "stage", screen=Screen(sys.stdout, sys.stderr), environment=environment)
        stage.prepare()
        try:
            with Fleet(folder, devices=devices, processes=PROCESSES, environment=environment) as fleet:
                return _Measurement(stage, fleet, write_versions(folder / "models", count=3 + len(BAD))).take()
        except DemoFailed as error:
            stage.show_tails(error.logs)
            raise
        finally:
            stage.processes.stop_all()


class _Measurement:
    """One coordinator, one fleet, one model of several versions."""

    def __init__(self, stage: Stage, fleet: Fleet, files: list[Path]) -> None:
        self._stage = stage
        self._fleet = fleet
        self._files = files
        self._plan = stage.folder / "plan.toml"
        self._plan.write_text(PLAN)

    def take(self) -> dict[str, Any]:
        """Everything, in order."""
        self._coordinator = self._begin()
        with self._stage.connect() as self._client:
            return self._figures()

    def _figures(self) -> dict[str, Any]:
        return {
            "fleet": {
                "devices": self._fleet.devices,
                "file_bytes": self._files[0].stat().st_size,
                "calls_a_second_and_device": CALLS / USED_EVERY_S,
                "heartbeat_s": HEARTBEAT_S,
                "report_interval_s": REPORT_INTERVAL.total_seconds(),
            },
            "first version, deployed to all at once": self._deploy_first(),
            "rollout, patches": self._roll_out(2, patches=True),
            "rollout, whole files": self._roll_out(3, patches=False),
            **{
                f"bad version, {what}": self._roll_out_bad(number, behaviour)
                for number, (what, behaviour) in enumerate(BAD.items(), start=4)
            },
        }

    def _begin(self) -> int:
        """Start the coordinator, enroll the fleet, wait until it is online; the coordinator's process id."""
        stage, fleet = self._stage, self._fleet
        demo_fleet.log_in(stage, demo_fleet.start_coordinator(stage, demo_fleet.Ports(), heartbeat_s=HEARTBEAT_S))
        uses = str(fleet.devices)
        token = stage.edgeward("devices", "token", "--group", GROUP, "--uses", uses, "--expires", "10m", "--json")
        fleet.tell(enroll=token["enrollment_string"])
        stage.tell(f"{fleet.devices} devices have enrolled")
        fleet.tell(run=True)
        self._wait("all devices are online", lambda figures: figures["online"]["devices"] == fleet.devices)
        server = json.loads((stage.folder / COORDINATOR / "server.json").read_text())
        return int(server["pid"])

    def _publish(self, number: int) -> None:
        self._stage.edgeward("models", "push", MODEL, self._files[number - 1], "--json")
        self._stage.edgeward("models", "approve", f"{MODEL}:{number}", "--reason", "benchmark", "--json")

    def _deploy_first(self) -> dict[str, Any]:
        self._publish(1)

        def deploy() -> None:
            self._stage.edgeward("deploy", f"{MODEL}:1", "--group", GROUP)
            self._wait_for_all("serving", 1)

        return self._cost_of(deploy)

    def _roll_out(self, number: int, *, patches: bool) -> dict[str, Any]:
        """A good version, from the start of its rollout until every device has committed to it."""
        self._publish(number)
        self._fleet.tell(patches=patches)

        def roll_out() -> None:
            self._end_of(self._start(number), "succeeded")
            self._wait_for_all("committed", number)

        return self._cost_of(roll_out)

    def _roll_out_bad(self, number: int, behaviour: Behaviour) -> dict[str, Any]:
        """A bad version, from the start of its rollout until every device that had it is back."""
        self._publish(number)
        self._fleet.tell(patches=True)
        self._fleet.tell(behaviours={number: asdict(behaviour)})
        began = time.monotonic()
        rollout = self._end_of(self._start(number), "rolled_back")
        seconds = time.monotonic() - began
        self._wait_for_all("serving", 3)
        served = self._fleet.figures()["served"][str(number)]
        return {
            "seconds": round(seconds, 1),
            "devices_it_ever_served_on": served,
            "share_of_the_fleet": served / self._fleet.devices,
            "stopped_in_phase": rollout.phases[rollout.phase].name,
            "gates": {gate.name: gate.text for gate in rollout.phases[rollout.phase].gates if gate.state == "failed"},
        }

    def _start(self, number: int) -> str:
        started = self._stage.edgeward(
            *("rollouts", "start", f"{MODEL}:{number}", "--group", GROUP, "--plan", self._plan, "--json")
        )
        return str(started["id"])

    def _end_of(self, rollout_id: str, expected: str) -> deployment_pb2.Rollout:
        """Wait until a rollout is over."""
        request = deployment_pb2.GetRolloutRequest(rollout_id=rollout_id)
        seen = deployment_pb2.Rollout()

        def is_over() -> bool:
            nonlocal seen
            seen = self._client.deployments.GetRollout(request).rollout
            if seen.state not in {"running", "rolling_back", expected}:
                raise RuntimeError(f"the rollout is {seen.state}, not {expected}: {seen.reason}")
            return seen.state == expected

        self._stage.wait_for(f"the rollout is {expected}", is_over, within_s=WITHIN_S, logs=[COORDINATOR])
        self._stage.tell(f"{expected}: {seen.reason}")
        return seen

    def _wait_for_all(self, state: str, number: int) -> None:
        def is_so(figures: dict[str, Counter[str]]) -> bool:
            return figures[state][str(number)] == self._fleet.devices

        self._wait(f"version {number} is {state} on all devices", is_so)

    def _wait(self, what: str, is_so: Callable[[dict[str, Counter[str]]], bool]) -> None:
        self._stage.wait_for(what, lambda: is_so(self._fleet.figures()), within_s=WITHIN_S, logs=[COORDINATOR])
        self._stage.tell(what)

    def _cost_of(self, work: Callable[[], None]) -> dict[str, Any]:
        before = self._fleet.figures()
        with Cost(self._coordinator) as cost:
            work()
        after = self._fleet.figures()
        spent = {name: after[name] - before[name] for name in ("calls", "payload", "wire")}
        calls = spent["calls"]
        return {
            "seconds": round(cost.seconds, 1),
            "requests": calls["fetch"] + calls["metadata"] + calls["report"],
            "calls": dict(calls),
            "wire_bytes_to_devices": spent["wire"]["received"],
            "wire_bytes_from_devices": spent["wire"]["sent"],
            "payload_bytes": dict(spent["payload"]),
            "fleet_cpu_s": round(after["cpu"]["s"] - before["cpu"]["s"], 1),
            "coordinator_cpu_s": round(cost.cpu_s, 1),
            "coordinator_peak_mib": round(cost.peak_mib, 1),
        }


def _ratios(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    patched, whole = figures["rollout, patches"], figures["rollout, whole files"]
    ratios = {
        "bytes on the wire to devices, patches / whole files": patched["wire_bytes_to_devices"]
        / whole["wire_bytes_to_devices"],
        "bytes of artifacts, patches / whole files": patched["payload_bytes"]["artifacts"]
        / whole["payload_bytes"]["artifacts"],
        "time, patches / whole files": patched["seconds"] / whole["seconds"],
        "coordinator's CPU, patches / whole files": patched["coordinator_cpu_s"] / whole["coordinator_cpu_s"],
    }
    for what in BAD:
        ratios[f"share of the fleet that a version ever served on, {what}"] = figures[f"bad version, {what}"][
            "share_of_the_fleet"
        ]
    return {name: round(value, 4) for name, value in ratios.items()}


def _show(figures: Mapping[str, Mapping[str, Any]], ratios: Mapping[str, float]) -> None:
    console = Console()
    ratio_table = Table("ratio", "value", title="rollout")
    for name, value in ratios.items():
        ratio_table.add_row(name, f"{value:.4f}")
    console.print(ratio_table)
    table = Table("what", "s", "requests", "MB to devices", "coordinator CPU s", "coordinator MiB")
    for name, row in figures.items():
        if "requests" in row:
            table.add_row(
                name,
                f"{row['seconds']:.1f}",
                str(row["requests"]),
                f"{row['wire_bytes_to_devices'] / 1e6:.1f}",
                f"{row['coordinator_cpu_s']:.1f}",
                f"{row['coordinator_peak_mib']:.0f}",
            )
    console.print(table)
