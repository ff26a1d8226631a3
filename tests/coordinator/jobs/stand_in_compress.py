"""A stand-in for the compression's process: same arguments, same words; the bundle is the script that it follows.

The script sees `spec`, `out` and two verbs: `say(event, **fields)`, and
`make(flavor, **changes)`, which writes a flavor's files and says so.
"""

import json
import sys
from pathlib import Path

import numpy as np

from edgeward.protocol.golden import GoldenSet, encode_golden

SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 4]}],
}


def say(event: str, **fields: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def make(flavor: str, /, **changes: object) -> None:
    """A flavor, with some of what is said of it changed."""
    form, precision = flavor.split("-")
    (out / flavor).write_bytes(f"model {flavor}".encode())
    x = np.ones((1, 4), np.float32)
    golden = GoldenSet(inputs={"x": x}, outputs={"y": x}, tolerance=0.1)
    (out / f"{flavor}.npz").write_bytes(encode_golden(golden))
    fields: dict[str, object] = {
        "name": flavor,
        "format": form,
        "precision": precision,
        "file": flavor,
        "golden": f"{flavor}.npz",
        "signature": SIGNATURE,
        "evaluation": {"examples": 360, "accuracy": 0.97, "latency_p50_s": 1e-4, "runtime": "onnxruntime"},
    }
    say("flavor", **(fields | changes))


_arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
spec = json.loads(Path(_arguments["--spec"]).read_text())
out = Path(_arguments["--out"])
exec(Path(spec["bundle"]).read_text())
