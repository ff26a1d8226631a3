"""Three versions of an app's model, made in a process of its own: training and export bring torch with them.

python -m edgeward_server.demo.three_versions APP_FOLDER OUT_FOLDER

`first` learned for a short while; `better` is `first` with its last layers
trained further, so that most of its bytes are the same; `bad` is `better` with
the rows of its last layer in the wrong places: it loads, runs as fast, and
agrees with its own golden set, and what it says is wrong. `versions.json` says
how well each reads digits that none of them learned from; `held-out.npz` has
those digits as `x` and `y`.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeward.protocol.golden import encode_golden
from edgeward_compression.models.app_model import AppModel
from edgeward_compression.models.evaluate import evaluate_model, make_golden
from edgeward_compression.models.onnx_export import export_onnx
from edgeward_compression.runtimes import load_model

_FIRST_EPOCHS: Final = 2
_MORE_EPOCHS: Final = 12
_SEED: Final = 3


def main() -> None:
    """Make them all."""
    folder, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(folder))
    app = tomllib.loads((folder / "pyproject.toml").read_text())
    task = importlib.import_module(app["tool"]["edgeward"]["model"]["module"].partition(":")[0])
    accuracies = {name: _publish(net, name, task, out) for name, net in _versions(task).items()}
    (out / "versions.json").write_text(json.dumps(accuracies))
    inputs, labels = task.held_out()
    np.savez(out / "held-out.npz", x=inputs, y=labels)


def _versions(task: Any) -> dict[str, Any]:  # noqa: ANN401 - the app's module
    images, _, labels, _ = task.load_partition(0, 1, 1.0, _SEED)

    def train(net: Any, epochs: int) -> Any:  # noqa: ANN401 - a torch module
        task.train(net, images, labels, epochs=epochs, learning_rate=0.05, batch_size=32, seed=_SEED)
        return net.eval()

    task.torch.manual_seed(_SEED)
    first = train(task.Net(), _FIRST_EPOCHS)
    better = copy.deepcopy(first)
    better.features.requires_grad_(requires_grad=False)
    better.classifier[1].requires_grad_(requires_grad=False)
    train(better, _MORE_EPOCHS)
    bad = copy.deepcopy(better)
    last = bad.classifier[-1].weight
    last.data = last.data.roll(1, 0)
    return {"first": first, "better": better, "bad": bad}


def _publish(net: Any, name: str, task: Any, out: Path) -> float:  # noqa: ANN401 - torch is untyped here
    inputs, labels = task.held_out()
    calibration = task.calibration_inputs()
    model = AppModel(module=net, example=calibration[:1], calibration=calibration, held_out=inputs, labels=labels)
    file = out / f"{name}.onnx"
    export_onnx(model, file)
    with load_model(file, format="onnx") as loaded:
        (out / f"{name}.golden.npz").write_bytes(encode_golden(make_golden(loaded, inputs, "fp32")))
        return evaluate_model(loaded, inputs, labels).accuracy


if __name__ == "__main__":
    main()
