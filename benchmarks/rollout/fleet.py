"""The processes of the fleet, from the side of the scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fleet:
    """So many devices in so many processes; a context."""

    def __init__(self, folder: Path, *, devices: int, processes: int, environment: Mapping[str, str]) -> None:
        self.devices = devices
        self._log = (folder / "fleet.log").open("w")
        share = -(-devices // processes)
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.rollout.fleet_process", str(folder / "devices")),
                    *(str(first), str(min(share, devices - first))),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=dict(environment),
            )
            for first in range(0, devices, share)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    def tell(self, **command: object) -> list[dict[str, Any]]:
        """Have every process do something; what they answer.

        Raises:
            RuntimeError: One has ended; its log says why.
        """
        for process in self._processes:
            if process.stdin is None or process.poll() is not None:
                raise self._ended()
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        lines = [process.stdout.readline() for process in self._processes if process.stdout is not None]
        if not all(lines):
            raise self._ended()
        return [json.loads(line) for line in lines]

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"a process of the fleet has ended:\n{Path(self._log.name).read_text()[-4000:]}")

    def figures(self) -> dict[str, Counter[str]]:
        """Sums over all processes; `online` is under "devices"."""
        sums: dict[str, Counter[str]] = {}
        for answer in self.tell(figures=True):
            sums.setdefault("online", Counter()).update(devices=answer.pop("online"))
            for name, counts in answer.items():
                sums.setdefault(name, Counter()).update(counts)
        return sums
