"""The scenario; see README.md."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.agent_footprint.measuring import (
    Footprint,
    end,
    free_port,
    measure_idle,
    median_start_s,
    time_to_line,
)
from benchmarks.agent_footprint.models import make_int8_models
from benchmarks.results import write_results
from edgeward.protocol.telemetry import ResourceSample, TelemetryRecord
from edgeward_agent.telemetry import Outbox
from edgeward_server.demo import fleet
from edgeward_server.demo.stage import Stage
from edgeward_server.terminal.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("onnx", "tflite")
WAITING_RECORDS = 100_000
SETTLE_S, OBSERVE_S, STARTS = 20.0, 30.0, 5


def run() -> None:
    """Measure, print the table, write `results.json`."""
    # The machine's own settings may forbid bytecode, which would be measured instead of the agent.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # Flower's programs start one another by name.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    with tempfile.TemporaryDirectory(prefix="edgeward-footprint-") as name:
        stage = Stage(Path(name) / "stage", screen=Screen(sys.stdout, sys.stderr), environment=environment)
        stage.prepare()
        try:
            figures = _measure(stage, environment)
        finally:
            stage.processes.stop_all()
    ratios = _ratios(figures)
    _show(figures, ratios)
    print(f"written: {write_results('agent_footprint', ratios=ratios, figures=figures)}")


def _measure(stage: Stage, environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    models = make_int8_models(stage.folder / "models", environment=environment)
    ports = fleet.start_coordinator(stage, fleet.Ports())
    fleet.log_in(stage, ports)
    figures = {f"agent on {each}": _measure_agent(stage, environment, each, models[each]) for each in FORMATS}
    for each in FORMATS:
        figures[f"bare Python with {each}"] = asdict(_measure_bare(environment, each, models[each]))
    figures["Flower SuperNode"] = asdict(_measure_supernode(stage, environment))
    return figures


def _measure_agent(stage: Stage, environment: Mapping[str, str], model_format: str, model: Path) -> dict[str, Any]:
    name = f"footprint-{model_format}"
    state = stage.folder / name
    stage.edgeward("models", "push", name, model)
    token = stage.edgeward("devices", "token", "--group", name, "--uses", "1", "--expires", "10m", "--json")
    stage.call(stage.program("edgeward-agent"), "enroll", token["enrollment_string"], "--state-dir", state)
    command: list[str | Path] = [
        stage.program("edgeward-agent"),
        "run",
        "--state-dir",
        state,
        "--runtime",
        model_format,
    ]
    _, process = time_to_line(command, "ready", environment=environment)
    stage.edgeward("deploy", name, "--group", name, "--wait", "--timeout", "2m")
    end(process)

    def start() -> Any:  # noqa: ANN401 - what time_to_line gives
        return time_to_line(command, "ready", environment=environment)

    empty_s = median_start_s(start, times=STARTS)
    _, process = start()
    footprint = measure_idle(process.pid, settle_s=SETTLE_S, observe_s=OBSERVE_S)
    end(process)
    _fill(state / "outbox.db")
    full_s = median_start_s(start, times=STARTS)
    return asdict(footprint) | {"ready_s": empty_s, f"ready_s_with_{WAITING_RECORDS}_records_waiting": full_s}


def _fill(outbox_file: Path) -> None:
    now = datetime.now(UTC)
    outbox = Outbox(outbox_file, max_bytes=1 << 30)
    for number in range(WAITING_RECORDS):
        outbox.append(TelemetryRecord(at=now, body=ResourceSample(resident_bytes=number, cpu_s=0.0, disk_free_bytes=0)))
    outbox.close()


def _measure_bare(environment: Mapping[str, str], model_format: str, model: Path) -> Footprint:
    script = Path(__file__).with_name("bare_python.py")
    command: list[str | Path] = [sys.executable, script, model_format, model]
    _, process = time_to_line(command, "ready", environment=environment)
    footprint = measure_idle(process.pid, settle_s=2.0, observe_s=5.0)
    end(process)
    return footprint


def _measure_supernode(stage: Stage, environment: Mapping[str, str]) -> Footprint:
    flower = dict(environment) | {
        "FLWR_HOME": str(stage.folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    fleet = f"127.0.0.1:{free_port()}"
    superlink: list[str | Path] = [
        stage.program("flower-superlink"),
        "--insecure",
        *("--host", "127.0.0.1", "--port", str(free_port())),
        *("--fleet-api-address", fleet),
        *("--control-api-address", f"127.0.0.1:{free_port()}"),
    ]
    supernode: list[str | Path] = [
        stage.program("flower-supernode"),
        "--insecure",
        *("--superlink", fleet),
        *("--host", "127.0.0.1", "--port", str(free_port())),
    ]
    _, link = time_to_line(superlink, "running on", environment=flower)
    try:
        _, node = time_to_line(supernode, "running on", environment=flower)
        try:
            return measure_idle(node.pid, settle_s=SETTLE_S, observe_s=OBSERVE_S)
        finally:
            end(node)
    finally:
        end(link)


def _ratios(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    peer = figures["Flower SuperNode"]["resident_mib"]
    ratios = {}
    for each in FORMATS:
        agent, bare = figures[f"agent on {each}"], figures[f"bare Python with {each}"]
        ratios[f"resident, agent on {each} / bare Python"] = agent["resident_mib"] / bare["resident_mib"]
        ratios[f"resident, agent on {each} / SuperNode"] = agent["resident_mib"] / peer
        full = agent[f"ready_s_with_{WAITING_RECORDS}_records_waiting"]
        ratios[f"start-up, agent on {each}: full outbox / empty"] = full / agent["ready_s"]
    return {name: round(value, 3) for name, value in ratios.items()}


def _show(figures: Mapping[str, Mapping[str, Any]], ratios: Mapping[str, float]) -> None:
    console = Console()
    ratio_table = Table("ratio", "value", title="agent_footprint")
    for name, value in ratios.items():
        ratio_table.add_row(name, f"{value:.2f}")
    console.print(ratio_table)
    table = Table("process", "resident MiB", "processes", "idle, % of a core", "ready s", "ready s, full outbox")
    for name, row in figures.items():
        table.add_row(
            name,
            f"{row['resident_mib']:.1f}",
            str(row["processes"]),
            f"{100 * row['idle_core_share']:.2f}",
            f"{row['ready_s']:.2f}" if "ready_s" in row else "",
            f"{row[f'ready_s_with_{WAITING_RECORDS}_records_waiting']:.2f}" if "ready_s" in row else "",
        )
    console.print(table)
