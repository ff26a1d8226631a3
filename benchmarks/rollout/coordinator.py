"""What a coordinator's processes cost while something goes on: CPU and the largest resident memory, from the kernel."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERY_S = 0.5
_MIB = 1 << 20


class Cost:
    """A context; afterwards `seconds`, `cpu_s` and `peak_mib` say what it was."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="cost")
        self.seconds = self.cpu_s = self.peak_mib = 0.0

    def __enter__(self) -> Self:
        self._began, self._cpu_before = time.monotonic(), self._cpu()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sampler.join()
        self.seconds = time.monotonic() - self._began
        self.cpu_s = self._cpu() - self._cpu_before

    def _sample(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.peak_mib = max(self.peak_mib, sum(each.memory_info().rss for each in self._family()) / _MIB)

    def _family(self) -> Iterator[psutil.Process]:
        yield self._process
        with suppress(psutil.Error):
            yield from self._process.children(recursive=True)

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
