"""Write a scenario's figures down with the machine and the commit they belong to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT = Path(__file__).parent.parent


def write_results(scenario: str, *, ratios: Mapping[str, float], figures: Mapping[str, Any]) -> Path:
    """Write `benchmarks/<scenario>/results.json`, ratios first.

    Returns:
        The file.
    """
    document = {
        "scenario": scenario,
        "ratios": dict(ratios),
        "figures": dict(figures),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "commit": _commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = Path(__file__).parent / scenario / "results.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False)
    return answer.stdout.strip()
