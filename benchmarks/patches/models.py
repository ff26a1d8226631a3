"""A base and what it became by fine-tuning, as the files that the project's own compression makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.patches.training import APP, CHANGES
from edgeward.protocol.bundle import pack_bundle

if TYPE_CHECKING:
    from pathlib import Path

FLAVORS = ("onnx-int8", "tflite-int8", "onnx-fp32")


def make_models(folder: Path) -> dict[str, dict[str, Path]]:
    """Train and compress, each in a process of its own.

    Returns:
        The files by flavor, and in that by "base" or the name of the change.
    """
    (folder / "bundle.zip").write_bytes(pack_bundle(APP))
    subprocess.run([sys.executable, "-m", "benchmarks.patches.training", folder], check=True)
    files: dict[str, dict[str, Path]] = {flavor: {} for flavor in FLAVORS}
    for name in ("base", *CHANGES):
        for flavor, file in _compress(folder, name).items():
            files[flavor][name] = file
    return files


def _compress(folder: Path, name: str) -> dict[str, Path]:
    spec, out = folder / "spec.json", folder / name
    spec.write_text(
        json.dumps(
            {
                "bundle": str(folder / "bundle.zip"),
                "arrays": str(folder / f"{name}.npz"),
                "flavors": FLAVORS,
                "seed": 0,
            }
        )
    )
    command: list[str | Path] = [sys.executable, "-m", "edgeward_compression.models.compress"]
    command += ["--spec", spec, "--out", out]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    events = [json.loads(line) for line in told.splitlines()]
    return {event["name"]: out / event["file"] for event in events if event["event"] == "flavor"}
