"""Many devices in one process, told what to do by lines of JSON on stdin, each answered by one on stdout.

python -m benchmarks.rollout.fleet_process FOLDER FIRST COUNT

`{"enroll": STRING}`, `{"run": true}`, `{"patches": BOOL}`, `{"behaviours": {VERSION: {…}}}`, `{"figures": true}`;
the end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.rollout.behaviour import Behaviour
from benchmarks.rollout.device import BenchDevice, enroll_device
from benchmarks.rollout.wire_bytes import count_wire_bytes
from edgeward.protocol.enrollment import parse_enrollment_string
from edgeward_agent.identity import IdentityStore, split_address
from edgeward_agent.state_dir import StateDir

_AT_ONCE = 3  # the coordinator answers a few enrollments at the same time
_APART_S = 0.005


class FleetProcess:
    """The devices `first` to `first + count` of a folder."""

    def __init__(self, folder: Path, first: int, count: int) -> None:
        self._folders = {
            f"device-{number:04}": folder / f"device-{number:04}" for number in range(first, first + count)
        }
        self._devices: list[BenchDevice] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._port = 0

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a line says."""
        match command:
            case {"enroll": str(string)}:
                await self._enroll(string)
            case {"run": True}:
                await self._run()
            case {"patches": bool(takes_patches)}:
                for device in self._devices:
                    device.takes_patches = takes_patches
            case {"behaviours": dict(behaviours)}:
                for device in self._devices:
                    device.behaviours |= {int(version): Behaviour(**each) for version, each in behaviours.items()}
            case {"figures": True}:
                return self._figures()
            case _:
                raise ValueError(f"no such command: {command}")
        return {}

    async def stop(self) -> None:
        """End all devices."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _enroll(self, string: str) -> None:
        parts, turns = parse_enrollment_string(string), asyncio.Semaphore(_AT_ONCE)

        async def one(name: str, folder: Path) -> None:
            async with turns:
                await enroll_device(folder, name, parts)

        async with asyncio.TaskGroup() as group:
            for name, folder in self._folders.items():
                group.create_task(one(name, folder), name=f"enroll {name}")

    async def _run(self) -> None:
        for name, folder in self._folders.items():
            device = BenchDevice(folder)
            self._devices.append(device)
            self._tasks.append(asyncio.create_task(device.run(), name=name))
            await asyncio.sleep(_APART_S)
        identity = IdentityStore(StateDir(next(iter(self._folders.values()))).identity).load()
        self._port = split_address(identity.address)[1]
        gc.freeze()  # what is made once per device is not looked at again and again

    def _figures(self) -> dict[str, Any]:
        for task in self._tasks:
            if task.done():
                task.result()
        sent, received = count_wire_bytes(self._port)
        calls: Counter[str] = sum((device.link.calls for device in self._devices), Counter())
        payload: Counter[str] = sum((device.link.payload for device in self._devices), Counter())
        return {
            "online": sum(device.presence.is_online for device in self._devices),
            "committed": Counter(device.serving for device in self._devices if not device.is_on_probation),
            "serving": Counter(device.serving for device in self._devices),
            "served": Counter(version for device in self._devices for version in device.served),
            "calls": calls,
            "cpu": {"s": time.process_time()},
            "payload": payload,
            "wire": {"sent": sent, "received": received},
        }


async def main() -> None:
    """Read, obey, answer, until stdin ends."""
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    loop = asyncio.get_running_loop()
    # Signed metadata is verified in threads that wait for the network.
    loop.set_default_executor(ThreadPoolExecutor(32))
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    fleet = FleetProcess(folder, first, count)
    try:
        while line := await lines.readline():
            print(json.dumps(await fleet.obey(json.loads(line))), flush=True)
    finally:
        await fleet.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
