"""The first demo's acts, in order: train, compress, approve, deploy, predict without a coordinator, report.

Each act drives the real command lines, or the operator's client, against real
processes. What the closing table shows is measured: outputs against labels
here, counters from the coordinator's tables.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeward.v1 import federation_pb2, fleet_pb2
from edgeward_server.demo.fleet import GROUP, WAIT_S, start_agent, wait_until_online
from edgeward_server.demo.stage import COORDINATOR, DemoFailed, Stage
from edgeward_server.demo.verdict import DeviceFigures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.protocol.tensors import Array
    from edgeward.v1 import agent_pb2
    from edgeward_server.client import Client

MODEL: Final = "digits"
SEED: Final = 7

# Which part of the data is its own.
_NODE_CONFIGURATION: Final = """\
[node_config]
partition-id = {partition}
num-partitions = {partitions}
"""

_SERVES: Final = ("serving", "probation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the coordinator's tables hold of a device."""

    predictions: int
    offline_s: float
    bytes_received: int
    dropped_records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One device's part of the held-out examples, with its counters from before the coordinator leaves."""

    device: str
    flavor: str
    runtime: str
    inputs: Array
    labels: Array
    before: Counters


def start_agents(stage: Stage, names: Sequence[str]) -> None:
    """Each with its part of the data, the last one on TFLite, the others on ONNX; wait until all are online."""
    for number, name in enumerate(names):
        configuration = _NODE_CONFIGURATION.format(partition=number, partitions=len(names))
        start_agent(stage, name, runtime="tflite" if name == names[-1] else "onnx", configuration=configuration)
    wait_until_online(stage, names)


def train(stage: Stage, app: Path, *, rounds: int, devices: int) -> federation_pb2.Run:
    """A federated run, shown as it goes."""
    options = ["--rounds", str(rounds), "--seed", str(SEED), "--min-devices", str(devices), "--round-timeout", "2m"]
    stage.show_edgeward("runs", "start", app, "--group", GROUP, *options)
    with stage.connect() as client:
        runs = client.federation.ListRuns(federation_pb2.ListRunsRequest(group=GROUP)).runs
    if len(runs) != 1 or runs[0].model != MODEL or not runs[0].version:
        raise DemoFailed(f"the run left no version of {MODEL}", logs=[COORDINATOR])
    return runs[0]


def share_out(stage: Stage, names: Sequence[str], app: Path) -> list[Share]:
    """Deal the app's held-out examples to the devices."""
    file = stage.folder / "held-out.npz"
    stage.call(Path(sys.executable), "-m", "edgeward_server.demo.held_out", app, file)
    with np.load(file, allow_pickle=False) as held_out:
        inputs, labels = held_out["x"], held_out["y"]
    with stage.connect() as client:
        answers = [client.fleet.GetDevice(fleet_pb2.GetDeviceRequest(device=name)) for name in names]
    shares = []
    for number, (name, answer) in enumerate(zip(names, answers, strict=True)):
        serving = _serving(answer.device.reported)
        shares.append(
            Share(
                device=name,
                flavor=serving.flavor,
                runtime=serving.runtime,
                inputs=inputs[number :: len(names)],
                labels=labels[number :: len(names)],
                before=_counters(answer),
            )
        )
    return shares


def predict_offline(stage: Stage, shares: Sequence[Share]) -> dict[str, int]:
    """Every device predicts its share.

    Returns:
        The number of right answers of each.
    """
    agent = stage.program("edgeward-agent")
    running = {}
    for share in shares:
        asked, answered = stage.folder / f"{share.device}-inputs.npz", stage.folder / f"{share.device}-outputs.npz"
        np.savez(asked, x=share.inputs)  # a model of one input takes an array of any name
        arguments: list[str | Path] = ["--state-dir", stage.folder / share.device, "--model", MODEL, "--input", asked]
        running[share.device] = stage.begin(agent, "predict", *arguments, "--output", answered)
    for process in running.values():
        stage.finish(process, agent)
    return {share.device: _count_right(stage, share) for share in shares}


def wait_for_reports(stage: Stage, shares: Sequence[Share], *, away_s: float) -> None:
    """The coordinator's tables know of every prediction, and of all the time that it was away."""

    def have_arrived() -> bool:
        with stage.connect() as client:
            return all(_has_reported(counters_of(client, share.device), share, away_s=away_s) for share in shares)

    names = [share.device for share in shares]
    stage.wait_for("all reports arrived", have_arrived, within_s=WAIT_S, logs=[COORDINATOR, *names])


def measure(stage: Stage, shares: Sequence[Share], right: Mapping[str, int]) -> list[DeviceFigures]:
    """The closing figures."""
    figures = []
    with stage.connect() as client:
        for share in shares:
            now = counters_of(client, share.device)
            figures.append(
                DeviceFigures(
                    name=share.device,
                    flavor=share.flavor,
                    runtime=share.runtime,
                    predicted=len(share.labels),
                    right=right[share.device],
                    reported=now.predictions - share.before.predictions,
                    bytes_received=now.bytes_received,
                    offline_s=now.offline_s - share.before.offline_s,
                    dropped_records=now.dropped_records,
                )
            )
    return figures


def counters_of(client: Client, device: str) -> Counters:
    """What the coordinator's tables say of a device now."""
    return _counters(client.fleet.GetDevice(fleet_pb2.GetDeviceRequest(device=device)))


def _counters(answer: fleet_pb2.GetDeviceResponse) -> Counters:
    dropped = sum(value for name, value in answer.counters.items() if name.startswith("dropped."))
    return Counters(
        predictions=sum(total.predictions for total in answer.totals if total.model == MODEL),
        offline_s=answer.counters.get("offline_s", 0.0),
        bytes_received=round(answer.counters.get("bytes_received", 0.0)),
        dropped_records=round(dropped),
    )


def _has_reported(now: Counters, share: Share, *, away_s: float) -> bool:
    predictions = now.predictions - share.before.predictions
    return predictions >= len(share.labels) and now.offline_s - share.before.offline_s >= away_s


def _serving(reported: agent_pb2.ReportedState) -> agent_pb2.ReportedModel:
    return next(model for model in reported.models if model.model == MODEL and model.state in _SERVES)


def _count_right(stage: Stage, share: Share) -> int:
    with np.load(stage.folder / f"{share.device}-outputs.npz", allow_pickle=False) as outputs:
        scores = outputs[outputs.files[0]]
    if len(scores) != len(share.labels):
        raise DemoFailed(f"{share.device} answered {len(scores)} of {len(share.labels)} examples", logs=[share.device])
    return int((scores.argmax(axis=-1) == share.labels).sum())
