"""The digits CNN as int8 for both runtimes, made by the project's own compression from seeded weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.bundle import pack_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

APP = Path(__file__).parents[2] / "examples" / "digits"

_WEIGHTS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from digits.task import Net
from edgeward.protocol.tensors import encode_tensors
torch.manual_seed(0)
Path(sys.argv[2]).write_bytes(encode_tensors({k: v.numpy() for k, v in Net().state_dict().items()}))
"""


def make_int8_models(folder: Path, *, environment: Mapping[str, str]) -> dict[str, Path]:
    """Compress untrained weights: accuracy does not matter to memory and time.

    Returns:
        The model files by format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays, bundle, spec = folder / "arrays.npz", folder / "bundle.zip", folder / "spec.json"
    bundle.write_bytes(pack_bundle(APP))
    subprocess.run([sys.executable, "-c", _WEIGHTS, APP, arrays], check=True, env=dict(environment))
    spec.write_text(
        json.dumps({"bundle": str(bundle), "arrays": str(arrays), "flavors": ["onnx-int8", "tflite-int8"], "seed": 0})
    )
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "edgeward_compression.models.compress",
        "--spec",
        spec,
        "--out",
        folder,
    ]
    told = subprocess.run(command, check=True, env=dict(environment), stdout=subprocess.PIPE, text=True).stdout
    events = [json.loads(line) for line in told.splitlines()]
    return {event["format"]: folder / event["file"] for event in events if event["event"] == "flavor"}
