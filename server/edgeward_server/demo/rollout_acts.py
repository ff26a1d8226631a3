"""The second demo's acts: publish and approve, let users ask, roll out in phases, and measure."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeward.protocol.instants import instant_from_timestamp
from edgeward.v1 import deployment_pb2, fleet_pb2
from edgeward_server.demo.fleet import GROUP, WAIT_S, start_agent, wait_until_online
from edgeward_server.demo.rollout_verdict import DeviceTraffic, RolloutFigures
from edgeward_server.demo.stage import COORDINATOR, DemoFailed, Stage

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

MODEL: Final = "digits"
CANARIES: Final = 1

_PYTHON: Final = Path(sys.executable)
_PLAN_FILE: Final = "plan.toml"


def begin_versions(stage: Stage, app: Path) -> subprocess.Popen[str]:
    """Train and export in the background; `finish_versions` waits for it."""
    return stage.begin(_PYTHON, "-m", "edgeward_server.demo.three_versions", app, stage.folder / "versions")


def finish_versions(stage: Stage, making: subprocess.Popen[str]) -> dict[str, float]:
    """How well each version reads held-out digits, as measured where it was made."""
    stage.finish(making, _PYTHON)
    accuracies: dict[str, float] = json.loads((stage.folder / "versions" / "versions.json").read_text())
    return accuracies


def start_agents(stage: Stage, names: Sequence[str]) -> None:
    """All on ONNX Runtime; wait until all are online."""
    for name in names:
        start_agent(stage, name, runtime="onnx")
    wait_until_online(stage, names)


def publish(stage: Stage, name: str, *, parent: int) -> int:
    """Push a version and have it approved.

    Returns:
        Its number.
    """
    folder = stage.folder / "versions"
    lineage = ["--parent", str(parent)] if parent else []
    pushed: dict[str, Any] = stage.edgeward(
        *("models", "push", MODEL, folder / f"{name}.onnx", "--golden", folder / f"{name}.golden.npz"),
        *("--note", name, "--json", *lineage),
    )
    number = int(pushed["version"])
    stage.show_edgeward("models", "approve", f"{MODEL}:{number}", "--reason", "its golden set agrees")
    return number


def deploy_first(stage: Stage, version: int) -> None:
    """To all at once, since there is nothing yet that could be worse."""
    stage.show_edgeward("deploy", f"{MODEL}:{version}", "--group", GROUP, "--wait", "--timeout", "2m")


def let_users_ask(stage: Stage, names: Sequence[str]) -> None:
    """A process a device, which asks its model all the time from now on."""
    module = ["-m", "edgeward_server.demo.traffic"]
    for name in names:
        arguments: list[str | Path] = [
            stage.folder / name,
            MODEL,
            stage.folder / "versions" / "held-out.npz",
            _account_of(stage, name),
        ]
        stage.processes.start(_users_of(name), [_PYTHON, *module, *arguments])


def send_users_home(stage: Stage, names: Sequence[str]) -> list[DeviceTraffic]:
    """End the traffic, and take what the users counted."""
    traffic = []
    for name in names:
        code = stage.processes.stop(_users_of(name))
        if code:
            raise DemoFailed(f"the users of {name} ended with exit code {code}", logs=[_users_of(name)])
        account = json.loads(_account_of(stage, name).read_text())
        traffic.append(
            DeviceTraffic(
                device=name,
                requests=account["requests"],
                dropped=sum(account["dropped"].values()),
                answered={int(version): count for version, count in account["answered"].items()},
                right={int(version): count for version, count in account["right"].items()},
            )
        )
    return traffic


def write_plan(stage: Stage, text: str) -> Path:
    """The plan of both rollouts."""
    path = stage.folder / _PLAN_FILE
    path.write_text(text)
    return path


def roll_out(stage: Stage, version: int, plan: Path, *, what: str, file_bytes: int) -> RolloutFigures:
    """Start a rollout and show it live until it has ended; nobody intervenes."""
    before = received_by_device(stage)
    stage.show_edgeward(
        *("rollouts", "start", f"{MODEL}:{version}", "--group", GROUP, "--plan", plan, "--watch"), may_be_refused=True
    )
    rollout = _newest_rollout(stage)
    # The counters of what was received last come with the next report.
    wait_for_reports(stage)
    took = {device.name for device in rollout.devices}
    received = sum(count - before.get(name, 0) for name, count in received_by_device(stage).items() if name in took)
    began, ended = instant_from_timestamp(rollout.created_at), instant_from_timestamp(rollout.ended_at)
    return RolloutFigures(
        version=version,
        what=what,
        state=rollout.state,
        took_s=(ended - began).total_seconds(),
        bytes_received=received,
        file_bytes=file_bytes,
    )


def wait_for_reports(stage: Stage) -> None:
    """Every device has reported once more than it had."""
    reports = _reports_by_device(stage)
    stage.wait_for(
        "all devices report",
        lambda: all(count > reports[name] for name, count in _reports_by_device(stage).items() if name in reports),
        within_s=WAIT_S,
        logs=[COORDINATOR, *reports],
    )


def received_by_device(stage: Stage) -> dict[str, int]:
    """Bytes that each device has received so far, as it counts them itself."""
    return {name: round(counters.get("bytes_received", 0.0)) for name, counters in _counters(stage).items()}


def serving_by_device(stage: Stage) -> dict[str, int]:
    """The version that each device reports to serve."""
    with stage.connect() as client:
        devices = client.fleet.ListDevices(fleet_pb2.ListDevicesRequest(group=GROUP)).devices
    return {
        device.name: model.version for device in devices for model in device.reported.models if model.model == MODEL
    }


def wait_until_all_serve(stage: Stage, names: Sequence[str], version: int) -> None:
    """Also those that were returned to it."""
    stage.wait_for(
        f"all devices serve {MODEL}:{version}",
        lambda: serving_by_device(stage) == dict.fromkeys(names, version),
        within_s=WAIT_S,
        logs=[COORDINATOR, *names],
    )


def settle(seconds: float) -> None:
    """Let users ask for a while."""
    time.sleep(seconds)


def _reports_by_device(stage: Stage) -> dict[str, int]:
    with stage.connect() as client:
        devices = client.fleet.ListDevices(fleet_pb2.ListDevicesRequest(group=GROUP)).devices
    return {device.name: device.predictions for device in devices}


def _counters(stage: Stage) -> dict[str, Mapping[str, float]]:
    with stage.connect() as client:
        devices = client.fleet.ListDevices(fleet_pb2.ListDevicesRequest(group=GROUP)).devices
        answers = [client.fleet.GetDevice(fleet_pb2.GetDeviceRequest(device=device.id)) for device in devices]
    return {answer.device.name: answer.counters for answer in answers}


def _newest_rollout(stage: Stage) -> deployment_pb2.Rollout:
    with stage.connect() as client:
        request = deployment_pb2.ListRolloutsRequest(group=GROUP, model=MODEL)
        rollouts = client.deployments.ListRollouts(request).rollouts
        if not rollouts:
            raise DemoFailed("no rollout was started", logs=[COORDINATOR])
        request_one = deployment_pb2.GetRolloutRequest(rollout_id=rollouts[0].id)
        return client.deployments.GetRollout(request_one).rollout


def _users_of(name: str) -> str:
    return f"users-of-{name}"


def _account_of(stage: Stage, name: str) -> Path:
    return stage.folder / f"{_users_of(name)}.json"
