"""A fleet in one process: a `DeviceLink` whose devices run the real ClientApp host, without network and processes.

Between an invitation and its reply a test may hold a device, or tamper with
what it replies. Like an agent, a device that has computed a reply pushes it
again when it is invited again.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.tensors import decode_tensors
from edgeward_coordinator.aggregation import DeviceLink, RunRecord, RunRequest, Runs
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.storage import BlobStore, Database, migrate
from tests.waiting import wait_until_async

with warnings.catch_warnings():  # Flower's own imports warn
    warnings.simplefilter("ignore")
    from edgeward_agent.learning.worker_app import ClientAppHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from edgeward.protocol.state import RunInvitation
    from edgeward.protocol.tensors import Array

APPS = Path(__file__).parents[2] / "apps"
DEVICES = tuple(f"{0xA0 + number:016x}" for number in range(3))


@dataclass
class Fleet:
    """Devices by id; `held` ones do not answer, nor what `holds` (device, call); `tamper` changes a reply."""

    app: Path
    devices: tuple[str, ...] = DEVICES
    is_online: bool = True
    offline: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    holds: Callable[[str, int], bool] = lambda _device_id, _call: False
    tamper: Callable[[str, RunInvitation, bytes], bytes] | None = None
    runs: Runs | None = None
    trained: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    asked_again: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    invitations: dict[str, RunInvitation] = field(default_factory=dict)
    _hosts: dict[str, ClientAppHost] = field(default_factory=dict)
    _states: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    _replies: dict[str, bytes] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def trainable(self, group: str) -> set[str]:
        """All are of the group "lab"."""
        return set(self.devices) - self.offline if self.is_online and group == "lab" else set()

    def invite(self, device_id: str, invitation: RunInvitation) -> None:
        """Answer, unless held."""
        if invitation.message_id in self.acknowledged:
            self.asked_again.append(invitation.message_id)
        self.invitations[invitation.message_id] = invitation
        if device_id not in self.held and not self.holds(device_id, _call(invitation)):
            task = asyncio.get_running_loop().create_task(self._attend(device_id, invitation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end_run(self, device_ids: Iterable[str], run_id: str) -> None:  # noqa: ARG002
        """Note it."""
        self.ended += device_ids

    def asked_in(self, call: int) -> set[str]:
        """The devices that were asked in a call."""
        return {_device(one) for one in self.invitations.values() if _call(one) == call}

    def release(self) -> None:
        """Nobody is held any more, and who was answers what it was asked."""
        self.held.clear()
        self.holds = lambda _device_id, _call: False
        for invitation in list(self.invitations.values()):
            if invitation.message_id not in self.acknowledged:
                self.invite(_device(invitation), invitation)

    async def _attend(self, device_id: str, invitation: RunInvitation) -> None:
        try:
            await asyncio.to_thread(self._answer, device_id, invitation)
        except NotFound:
            return  # the message is over

    def _answer(self, device_id: str, invitation: RunInvitation) -> None:
        runs, message_id = self.runs, invitation.message_id
        assert runs is not None
        path, total_bytes = runs.open_message(device_id, invitation.run_id, message_id)
        data = path.read_bytes()
        assert (digest_of(data), len(data)) == (invitation.message_digest, total_bytes)
        if message_id not in self._replies:
            self.trained[message_id] += 1
            self._replies[message_id] = self._compute(device_id, invitation, data)
        deliver(runs, device_id, invitation, self._replies[message_id])
        self.acknowledged.add(message_id)

    def _compute(self, device_id: str, invitation: RunInvitation, data: bytes) -> bytes:
        host = self._hosts.setdefault(
            device_id,
            ClientAppHost(
                self.app,
                run_config=invitation.run_config,
                node_config={"partition-id": self.devices.index(device_id)},
            ),
        )
        key = (device_id, invitation.run_id)
        answer = host.answer(data, self._states.get(key))
        self._states[key] = answer.state or self._states.get(key)
        return answer.reply if self.tamper is None else self.tamper(device_id, invitation, answer.reply)


def deliver(runs: Runs, device_id: str, invitation: RunInvitation, reply: bytes) -> None:
    """Push a reply as the Exchange servicer does."""
    partial = runs.begin_reply(device_id, invitation.run_id, invitation.message_id, digest_of(reply), len(reply))
    if partial.missing_bytes:
        partial.append(partial.offset, reply[partial.offset :])
    partial.commit()
    runs.finish_reply(device_id, invitation.run_id, invitation.message_id)


class Site:
    """A coordinator's data folder, which outlives the coordinators that work on it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database = Database(f"sqlite:///{folder}/edgeward.db")
        migrate(self.database)
        self.registry = Registry(self.database, BlobStore(str(folder / "objects")), folder / "scratch")

    def upload(self, app: Path) -> Digest:
        """Make an artifact of an app's bundle."""
        path = self.folder / f"{app.name}.zip"
        path.write_bytes(pack_bundle(app))
        return self.registry.store_artifact(path)[0]

    def runs(self, link: DeviceLink) -> Runs:
        """The domain object, not at work."""
        runs = Runs(
            database=self.database,
            registry=self.registry,
            link=link,
            folder=self.folder / "runs",
            clock=self.database.clock,
        )
        if isinstance(link, Fleet):
            link.runs = runs
        return runs

    def start(self, runs: Runs, fleet: Fleet, **arguments: Any) -> str:
        """Start a run of the fleet's app."""
        given: dict[str, Any] = {"group": "lab", "bundle_digest": self.upload(fleet.app), "seed": 7} | arguments
        return runs.start(RunRequest(**given), actor="ann").run_id

    def run_folder(self, run_id: str) -> Path:
        """The files of a run."""
        return self.folder / "runs" / run_id

    def learned(self, model: str) -> dict[str, Array]:
        """The arrays of a model's newest version."""
        flavor = self.registry.get_version(model).flavors[0].flavor
        return decode_tensors(b"".join(self.registry.open_artifact(flavor.digest)))

    @asynccontextmanager
    async def coordinator(self, fleet: Fleet) -> AsyncIterator[Runs]:
        """A coordinator at work; leaving is its end, its processes' too."""
        runs = self.runs(fleet)
        task = asyncio.create_task(runs.run(), name="runs")
        try:
            # Like sessions that begin: what waits is said again.
            for device_id in fleet.devices:
                for invitation in runs.pending_invitations(device_id):
                    fleet.invite(device_id, invitation)
            yield runs
        finally:
            task.cancel()
            await asyncio.wait([task])


async def end_of(runs: Runs, run_id: str, *, within_s: float = 60) -> RunRecord:
    """The run once it has ended."""
    record = runs.get(run_id)
    async with asyncio.timeout(within_s):
        async for changed in runs.changes(run_id):
            record = changed
    return record


def processes_of(run_id: str) -> list[psutil.Process]:
    """The ServerApp's processes of a run."""
    found = []
    for process in psutil.Process().children():
        try:
            if any(run_id in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def kill_serverapp(run_id: str) -> None:
    """Kill it as the kernel would, and wait until it is gone."""
    (process,) = processes_of(run_id)
    process.kill()
    await wait_until_async(lambda: process not in processes_of(run_id))


def _device(invitation: RunInvitation) -> str:
    return invitation.message_id.split("-")[2]


def _call(invitation: RunInvitation) -> int:
    return int(invitation.message_id.split("-")[1])
