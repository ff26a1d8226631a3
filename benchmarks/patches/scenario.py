"""The scenario; see README.md."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard
from rich.console import Console
from rich.table import Table

from benchmarks.patches.models import make_models
from benchmarks.patches.training import CHANGES
from benchmarks.results import write_results
from edgeward_compression.patches import apply_patch, make_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS = "edgeward"
APPLIED = 5


def run() -> None:
    """Measure, print the table, write `results.json`."""
    peers, missing = _find_peers()
    figures: dict[str, Any] = {"peers left out": missing}
    with tempfile.TemporaryDirectory(prefix="edgeward-patches-") as name:
        folder = Path(name)
        for flavor, files in make_models(folder).items():
            for change in CHANGES:
                figures[f"{flavor}, {change}"] = _measure(files["base"], files[change], folder, peers)
    ratios = _ratios(figures)
    _show(figures, ("whole file, zstd -19", OURS, *peers))
    for peer, reason in missing.items():
        print(f"{peer} left out: {reason}")
    print(f"written: {write_results('patches', ratios=ratios, figures=figures)}")


def _measure(base: Path, target: Path, folder: Path, peers: Mapping[str, Callable[..., None]]) -> dict[str, Any]:
    whole, patch, out = target.stat().st_size, folder / "patch", folder / "out"
    started = time.perf_counter()
    info = make_patch(base, target, patch)
    made_s = time.perf_counter() - started
    durations = []
    for _ in range(APPLIED):
        started = time.perf_counter()
        apply_patch(base, patch, out, max_bytes=whole)
        durations.append(time.perf_counter() - started)
    if out.read_bytes() != target.read_bytes():
        raise RuntimeError(f"the patch to {target} does not give it")
    patch_bytes = {
        "whole file, zstd -19": len(zstandard.ZstdCompressor(level=19).compress(target.read_bytes())),
        OURS: info.total_bytes,
    }
    for name, make in peers.items():
        make(base, target, folder / "peer")
        patch_bytes[name] = (folder / "peer").stat().st_size
    return {
        "file_bytes": whole,
        "patch_bytes": patch_bytes,
        "method": info.method,
        "make_s": round(made_s, 3),
        "apply_mb_per_s": round(whole / min(durations) / 1e6, 1),
    }


def _find_peers() -> tuple[dict[str, Callable[..., None]], dict[str, str]]:
    """The peers that are here, and why the others are not."""
    peers: dict[str, Callable[..., None]] = {}
    missing: dict[str, str] = {}
    if shutil.which("zstd"):
        peers["zstd --patch-from"] = _make_with_zstd
    else:
        missing["zstd --patch-from"] = "there is no program zstd here"
    try:
        bsdiff4 = importlib.import_module("bsdiff4")
    except ModuleNotFoundError:
        missing["bsdiff4"] = "the package bsdiff4 is not installed"
    else:
        peers["bsdiff4"] = lambda base, target, out: bsdiff4.file_diff(str(base), str(target), str(out))
    return peers, missing


def _make_with_zstd(base: Path, target: Path, out: Path) -> None:
    command: list[str | Path] = ["zstd", "--quiet", "--force", "--ultra", "-22", "--long=27", "--single-thread"]
    subprocess.run([*command, "--patch-from", base, target, "-o", out], check=True, stderr=subprocess.DEVNULL)


def _ratios(figures: Mapping[str, Any]) -> dict[str, float]:
    ratios = {}
    rows = {name: row for name, row in figures.items() if "patch_bytes" in row}
    for name, row in rows.items():
        ratios[f"{name}: patch / file"] = round(row["patch_bytes"][OURS] / row["file_bytes"], 5)
    for name, row in rows.items():
        for peer in ("zstd --patch-from", "bsdiff4"):
            if peer in row["patch_bytes"]:
                ratio = row["patch_bytes"][OURS] / row["patch_bytes"][peer]
                ratios[f"{name}: patch / {peer}"] = round(ratio, 3)
    return ratios


def _show(figures: Mapping[str, Any], names: tuple[str, ...]) -> None:
    table = Table("model and change", "file", *(f"{name}, %" for name in names), "made in s", "applied, MB/s")
    for name, row in figures.items():
        if "patch_bytes" not in row:
            continue
        shares = (f"{100 * row['patch_bytes'][each] / row['file_bytes']:.2f}" for each in names)
        table.add_row(name, f"{row['file_bytes']:,}", *shares, f"{row['make_s']:.2f}", f"{row['apply_mb_per_s']:.0f}")
    Console().print(table)
