"""The coordinator is killed in the middle of a round, of an upload, of reports: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from edgeward.protocol.digests import digest_of_file
from tests.integration.models import X, deploy_scale, write_heavy_scale
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.processes import Coordinator, Device, Operator

_APP = Path(__file__).parents[1] / "apps" / "gated_app"
_NAMES = ("north", "east", "south")


def open_gate(folder: Path, number: int) -> None:
    """Let a device answer a round."""
    (folder / str(number)).touch()


def rounds_trained(folder: Path) -> list[str]:
    """As its ClientApp noted them."""
    notes = folder / "trained.txt"
    return notes.read_text().split() if notes.exists() else []


def wait_until_all_online(admin: Operator, devices: list[Device]) -> None:
    """By themselves."""
    wait_until(lambda: all(admin.state_of(device.name) == "online" for device in devices), what="all are online")


def test_in_the_middle_of_a_round(
    coordinator: Coordinator, admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """The run goes on by itself, with every reply that was in or was computed meanwhile; nobody trains twice."""
    devices = [make_device(name) for name in _NAMES]
    gates = {name: tmp_path / f"gates-{name}" for name in _NAMES}
    for device in devices:
        gates[device.name].mkdir()
        device.join(admin, gates=str(gates[device.name]))
    options = ["--group", "lab", "--rounds", "2", "--min-devices", "3"]
    watching = admin.begin("runs", "start", _APP, *options, "--json")

    # With two of three replies in.
    for name in _NAMES[:2]:
        open_gate(gates[name], 1)
    runs = coordinator.data_dir / "runs"
    wait_until(lambda: len(list(runs.glob("*/calls/000001/replies/*.bin"))) == 2, within_s=60, what="two replies")
    accepted = {path: path.stat().st_mtime_ns for path in runs.glob("*/calls/000001/replies/*.bin")}
    children = psutil.Process(coordinator.pid).children(recursive=True)
    coordinator.kill()
    wait_until(lambda: not any(child.is_running() for child in children), what="no ServerApp without its coordinator")
    coordinator.start()
    wait_until_all_online(admin, devices)
    assert {path: path.stat().st_mtime_ns for path in accepted} == accepted
    open_gate(gates[_NAMES[2]], 1)

    # With all asked and none answered: they answer while nobody is there.
    asked = tmp_path / "devices"
    wait_until(lambda: len(list(asked.glob("*/learning/runs/*/messages/*-2-*.bin"))) == 3, what="all are asked")
    coordinator.kill()
    for folder in gates.values():
        open_gate(folder, 2)
    wait_until(lambda: all(len(rounds_trained(folder)) == 2 for folder in gates.values()), what="all have trained")
    coordinator.start()

    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    run = json.loads(out)
    assert (run["state"], run["version"]) == ("finished", 1), run
    assert {name: rounds_trained(folder) for name, folder in gates.items()} == {name: ["1", "2"] for name in _NAMES}
    assert [(entry["asked"], entry["answered"]) for entry in run["rounds_log"]] == [(3, 3), (3, 3)]
    pulled = tmp_path / "gated.npz"
    assert admin("models", "pull", "gated:1", "--out", pulled).code == 0
    with np.load(pulled) as arrays:
        assert {name: arrays[name].tolist() for name in arrays.files} == {"weight": [2.0]}
    assert all(device.is_running for device in devices)


def test_in_the_middle_of_an_upload(coordinator: Coordinator, admin: Operator, tmp_path: Path) -> None:
    """The command ends with one sentence; again, it goes on from the byte where it stopped."""
    model = write_heavy_scale(tmp_path / "heavy.onnx", ballast_bytes=128 << 20)
    digest, total_bytes = digest_of_file(model), model.stat().st_size
    pushing = admin.begin("models", "push", "heavy", model)
    scratch = coordinator.data_dir / "scratch"
    parts: list[Path] = []

    def has_begun() -> bool:
        parts[:] = scratch.rglob(f"{digest}.part")
        return bool(parts) and parts[0].stat().st_size > 0

    wait_until(has_begun, what="the upload has begun")
    coordinator.kill()
    _, err = pushing.communicate(timeout=60)
    assert pushing.returncode != 0
    assert "Traceback" not in err
    assert "no coordinator answers" in err

    received = parts[0].stat().st_size
    assert 0 < received < total_bytes
    kept = tmp_path / "kept"
    os.link(parts[0], kept)  # would stay behind if the upload began anew
    coordinator.start()
    version = admin.document("models", "push", "heavy", model)
    assert version["flavors"][0]["flavor"]["sha256"] == digest
    assert kept.stat().st_size == total_bytes
    assert digest_of_file(kept) == digest
    pulled = tmp_path / "pulled.onnx"
    assert admin("models", "pull", "heavy:1", "--out", pulled).code == 0
    assert digest_of_file(pulled) == digest


def test_in_the_middle_of_reports(
    coordinator: Coordinator, admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """However often it dies while devices predict and report, its totals are exactly what was predicted."""
    devices = [make_device(name) for name in _NAMES[:2]]
    for device in devices:
        device.join(admin)
    wait_until_all_online(admin, devices)
    deploy_scale(admin, tmp_path / "model", *devices)
    predicted = dict.fromkeys(_NAMES[:2], 0)
    failures: list[str] = []
    enough = threading.Event()

    def predict(device: Device) -> None:
        rows = 0
        while not enough.is_set():
            rows = rows % 5 + 1
            outcome = device.predict(np.repeat(X, rows, axis=0))
            if outcome.code:
                failures.append(outcome.err)
            predicted[device.name] += rows

    threads = [threading.Thread(target=predict, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = sum(admin.predictions_of(device.name) for device in devices)
            coordinator.kill()
            coordinator.start()
            wait_until(lambda: sum(admin.predictions_of(device.name) for device in devices) > before, what="reports")  # noqa: B023 - called in this round of the loop
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert failures == []
    wait_until(
        lambda: {device.name: admin.predictions_of(device.name) for device in devices} == predicted,
        within_s=20,
        what=f"the totals are {predicted}",
    )
    assert all(device.is_running for device in devices)
