"""What is pushed, deployed and asked in these tests: y = 2x, and a heavier twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_models import WIDTH, write_onnx_scale
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.processes import Device, Operator

X = np.arange(WIDTH, dtype=np.float32).reshape(1, WIDTH)


def write_golden(path: Path, *, factor: float = 2.0, width: int = WIDTH) -> Path:
    """What the model answers to a few inputs."""
    x = np.arange(3 * width, dtype=np.float32).reshape(3, width)
    arrays: dict[str, Any] = {"input.x": x, "output.y": x * np.float32(factor)}
    np.savez(path, **arrays)
    return path


def write_heavy_scale(path: Path, *, ballast_bytes: int, factor: float = 2.0) -> Path:
    """The same function, in a file that is as large as wanted, of bytes that do not compress."""
    ballast = np.random.default_rng(7).random(ballast_bytes // 4, dtype=np.float32)
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Slice", ["ballast", "zero", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing"], ["sum"], keepdims=0),
        helper.make_node("Add", ["factor", "sum"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(ballast, "ballast"),
        numpy_helper.from_array(np.zeros(1, np.int64), "zero"),
        numpy_helper.from_array(np.float32(factor), "factor"),
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [value("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [value("y", TensorProto.FLOAT, ["batch", WIDTH])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def publish(admin: Operator, name: str, model: Path, golden: Path) -> int:
    """Push a version and approve it; its number."""
    pushed = admin.document("models", "push", name, model, "--golden", golden)
    number = int(pushed["version"])
    approved = admin("models", "approve", f"{name}:{number}")
    assert approved.code == 0, approved.err
    return number


def deploy_scale(admin: Operator, folder: Path, *devices: Device, factor: float = 2.0) -> None:
    """Push y = factor * x as `scale`, and return once the devices' group serves it."""
    for device in devices:
        wait_until(lambda: not device.is_running or admin.state_of(device.name) == "online", what="online")  # noqa: B023 - called in this round of the loop
        assert device.is_running, device.log
    folder.mkdir(exist_ok=True)
    model = write_onnx_scale(folder / "scale.onnx", factor=factor)
    golden = write_golden(folder / "scale.npz", factor=factor)
    publish(admin, "scale", model, golden)
    deployed = admin("deploy", "scale", "--group", "lab", "--wait", "--timeout", "40s")
    assert deployed.code == 0, (deployed.err, [device.log for device in devices])
