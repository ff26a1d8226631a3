"""Rollouts over real processes: a good version arrives, a bad one is taken back, and nobody has to watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.integration.models import X, deploy_scale, publish, write_golden, write_heavy_scale
from tests.integration.users import Users
from tests.tiny_models import WIDTH
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.processes import Coordinator, Device, Operator

_NAMES = ("north", "east", "south")

_PLAN = """\
[defaults]
soak = "0.5s"
device_timeout = "30s"
silence = "20s"
evidence_timeout = "60s"
min_predictions = 5
{gates}

[probation]
duration = "0.5s"

[[phases]]
name = "canary"
devices = 1
{canary}

[[phases]]
name = "everyone"
share = 1.0
"""

pytestmark = pytest.mark.timeout(180)


def write_plan(folder: Path, *, gates: str = "", canary: str = "") -> Path:
    """One device, then all, in seconds."""
    path = folder / "plan.toml"
    path.write_text(_PLAN.format(gates=gates, canary=canary))
    return path


def publish_scale(admin: Operator, folder: Path, *, factor: float) -> int:
    """The next version of `scale`, which answers y = factor * x and agrees with its own golden set."""
    model = write_heavy_scale(folder / f"scale-{factor}.onnx", ballast_bytes=1 << 16, factor=factor)
    return publish(admin, "scale", model, write_golden(folder / f"scale-{factor}.npz", factor=factor))


def publish_picky(admin: Operator, folder: Path) -> int:
    """A version that answers y = 2x to small inputs, and fails on others."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "place"], ["zero"]),
        helper.make_node("Add", ["factor", "zero"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros(100, np.float32), "zeros"),
        numpy_helper.from_array(np.float32(2), "factor"),
    ]
    x, y = (value(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "picky", [x], [y], constants)
    path = folder / "picky.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return publish(admin, "scale", path, write_golden(folder / "picky.npz"))


@pytest.fixture
def fleet(admin: Operator, make_device: Callable[..., Device], tmp_path: Path) -> list[Device]:
    """Three devices that serve scale:1."""
    devices = [make_device(name) for name in _NAMES]
    for device in devices:
        device.join(admin)
    deploy_scale(admin, tmp_path / "model", *devices)
    return devices


def start(admin: Operator, version: int, plan: Path) -> str:
    """Start a rollout; its id."""
    return str(admin.document("rollouts", "start", f"scale:{version}", "--group", "lab", "--plan", plan)["id"])


def show(admin: Operator, rollout_id: str) -> Any:
    """As the coordinator has it."""
    return admin.document("rollouts", "show", rollout_id)


def device_states(admin: Operator, rollout_id: str) -> dict[str, str]:
    """Of the admitted devices."""
    return {device["name"]: device["state"] for device in show(admin, rollout_id)["devices"]}


def served(device: Device) -> int:
    """The version that answers on a device, whatever anybody says."""
    return int(device.predict(X).document["version"])


def deployed(admin: Operator) -> int:
    """What the group runs."""
    return int(admin.document("deployments", "list", "--group", "lab")[0]["version"])


def test_a_good_version_reaches_everybody_in_phases(admin: Operator, fleet: list[Device], tmp_path: Path) -> None:
    """One first, then the others; not a request is dropped, and the group's deployment is the new version."""
    version = publish_scale(admin, tmp_path, factor=2.0)
    plan = write_plan(tmp_path, gates="min_labels = 5\nmin_accuracy = 0.9")
    with Users(*fleet) as users:
        watched = admin("rollouts", "start", f"scale:{version}", "--group", "lab", "--plan", plan, "--watch")
        assert watched.code == 0, (watched.out, watched.err)
        wait_until(lambda: len(users.served(version)) == len(fleet), what="all serve it")
    assert not users.dropped
    (rollout,) = admin.document("rollouts", "list")
    assert (rollout["state"], rollout["from_version"], rollout["to_version"]) == ("succeeded", 1, version)
    assert set(device_states(admin, rollout["id"]).values()) == {"succeeded"}
    assert watched.out.index("phase canary") < watched.out.index("phase everyone")
    assert deployed(admin) == version


def test_a_bad_version_is_taken_back_from_the_canary(admin: Operator, fleet: list[Device], tmp_path: Path) -> None:
    """It loads, agrees with its golden set and answers wrong: labels tell, and nobody else ever serves it."""
    version = publish_scale(admin, tmp_path, factor=3.0)
    plan = write_plan(tmp_path, gates="min_labels = 10\nmax_accuracy_drop = 0.1")
    with Users(*fleet) as users:
        watched = admin("rollouts", "start", f"scale:{version}", "--group", "lab", "--plan", plan, "--watch")
        assert watched.code == 1
        assert "rolled back" in watched.err
        assert "accuracy" in watched.err
        assert len(users.served(version)) == 1
        wait_until(lambda: {served(device) for device in fleet} == {1}, what="the canary is back")
    assert not users.dropped
    (rollout,) = admin.document("rollouts", "list")
    assert rollout["state"] == "rolled_back"
    assert deployed(admin) == 1
    actors = {entry["actor"] for entry in admin.document("audit", "show") if entry["action"].startswith("rollout.")}
    assert "rollouts" in actors


def test_a_version_that_fails_on_the_device_goes_back_there_first(
    admin: Operator, fleet: list[Device], tmp_path: Path
) -> None:
    """Its calls fail while it is on probation: the device returns by itself, and the coordinator believes it."""
    version = publish_picky(admin, tmp_path)
    plan = (
        write_plan(tmp_path, gates="max_error_ratio = 1.0").read_text().replace('duration = "0.5s"', 'duration = "20s"')
    )
    (tmp_path / "plan.toml").write_text(plan)
    with Users(*fleet, inputs=X + np.float32(1000)):
        rollout_id = start(admin, version, tmp_path / "plan.toml")
        wait_until(lambda: show(admin, rollout_id)["state"] == "rolled_back", within_s=60, what="rolled back")
    (device,) = show(admin, rollout_id)["devices"]
    assert {served(each) for each in fleet} == {1}
    assert device["state"] in {"failed", "returned"}
    events = admin.document("devices", "show", device["name"])["events"]
    assert any("roll" in event["event"]["kind"] for event in events), events


def test_a_rollout_survives_its_coordinator(
    coordinator: Coordinator, admin: Operator, fleet: list[Device], tmp_path: Path
) -> None:
    """Killed in the middle of it, it goes on where it was; who watches it watches on."""
    version = publish_scale(admin, tmp_path, factor=2.0)
    plan = write_plan(tmp_path, canary='soak = "4s"')
    with Users(*fleet) as users:
        rollout_id = start(admin, version, plan)
        wait_until(lambda: users.served(version), what="the canary serves it")
        watching = admin.begin("rollouts", "watch", rollout_id)
        wait_until(lambda: "succeeded" in device_states(admin, rollout_id).values(), what="the canary is done")
        coordinator.kill()
        coordinator.start()
        out, err = watching.communicate(timeout=60)
        assert watching.returncode == 0, (out, err)
        wait_until(lambda: len(users.served(version)) == len(fleet), what="all serve it")
    assert not users.dropped
    assert deployed(admin) == version


def test_a_device_that_joins_late_goes_through_the_phases(
    admin: Operator, fleet: list[Device], make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """It serves what its group runs until a phase admits it."""
    version = publish_scale(admin, tmp_path, factor=2.0)
    rollout_id = start(admin, version, write_plan(tmp_path, canary='soak = "50s"'))
    with Users(*fleet):
        wait_until(lambda: "succeeded" in device_states(admin, rollout_id).values(), what="the canary is done")
        late = make_device("late")
        late.join(admin)
        wait_until(lambda: late.predict(X).code == 0, what="it serves")
        assert served(late) == 1
        assert "late" not in device_states(admin, rollout_id)
        with Users(late):
            promoted = admin("rollouts", "promote", rollout_id, "--reason", "seen enough")
            assert promoted.code == 0, promoted.err
            assert admin("rollouts", "watch", rollout_id).code == 0
    assert served(late) == version
    assert device_states(admin, rollout_id)["late"] == "succeeded"


def test_a_device_that_was_away_does_not_block_and_follows(
    admin: Operator, fleet: list[Device], tmp_path: Path
) -> None:
    """Offline before it was admitted; it takes the version when it is back."""
    *others, sleeper = fleet
    sleeper.kill()
    wait_until(lambda: admin.state_of(sleeper.name) == "offline", what="it is seen to be away")
    version = publish_scale(admin, tmp_path, factor=2.0)
    with Users(*others):
        rollout_id = start(admin, version, write_plan(tmp_path))
        assert admin("rollouts", "watch", rollout_id).code == 0
    assert served(sleeper) == 1
    sleeper.start()
    wait_until(lambda: served(sleeper) == version, within_s=60, what="it has followed")


def test_what_a_person_does_to_a_rollout_is_done_once_and_logged(
    admin: Operator, fleet: list[Device], tmp_path: Path
) -> None:
    """Pause, resume and roll back, each twice; a deployment meanwhile is refused, and so is a second rollout."""
    assert fleet
    version = publish_scale(admin, tmp_path, factor=2.0)
    rollout_id = start(admin, version, write_plan(tmp_path, canary='soak = "50s"'))
    admin("deploy", "scale:1", "--group", "lab").verify_one_sentence(rollout_id, code=1)
    admin("rollouts", "start", f"scale:{version}", "--group", "lab").verify_one_sentence(rollout_id, code=1)
    for action, state in (
        ("pause", {"paused"}),
        ("resume", {"running"}),
        ("rollback", {"rolling_back", "rolled_back"}),
    ):
        for _ in range(2):
            answer = admin.document("rollouts", action, rollout_id, "--reason", f"to see what {action} does")
            assert answer["state"] in state
    wait_until(lambda: show(admin, rollout_id)["state"] == "rolled_back", within_s=60, what="rolled back")
    log = admin("audit", "show").out
    for action in ("pause", "resume", "rollback"):
        assert log.count(f"to see what {action} does") == 1
    assert {served(device) for device in fleet} == {1}
