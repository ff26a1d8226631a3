"""Coordinator and agents together, with all their processes, and no network in between."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeward_agent.learning import ExchangeRefused, Learning
from edgeward_coordinator.aggregation import RunState
from edgeward_coordinator.errors import CoordinatorError
from tests.coordinator.aggregation.fleet import APPS, DEVICES, Fleet, Site, end_of
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.state import RunInvitation
    from edgeward_coordinator.aggregation import Runs


class Desk:
    """An `ExchangeLink` and a source of bundles that hands everything over directly."""

    def __init__(self, site: Site, runs: Runs, device_id: str) -> None:
        self._site = site
        self._runs = runs
        self._device_id = device_id

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """An artifact."""
        for piece in self._site.registry.open_artifact(digest, offset):
            yield piece

    async def pull(self, run_id: str, message_id: str, offset: int) -> AsyncIterator[bytes]:
        """A message."""
        try:
            path, _ = self._runs.open_message(self._device_id, run_id, message_id)
        except CoordinatorError as error:
            raise ExchangeRefused(error.message) from error
        yield (await asyncio.to_thread(path.read_bytes))[offset:]

    async def push(self, run_id: str, message_id: str, path: Path, digest: Digest, total_bytes: int) -> None:
        """A reply."""
        try:
            partial = self._runs.begin_reply(self._device_id, run_id, message_id, digest, total_bytes)
            if partial.missing_bytes:
                partial.append(partial.offset, (await asyncio.to_thread(path.read_bytes))[partial.offset :])
            partial.commit()
            self._runs.finish_reply(self._device_id, run_id, message_id)
        except CoordinatorError as error:
            raise ExchangeRefused(error.message) from error


class Agents:
    """A `DeviceLink` to real agents."""

    def __init__(self) -> None:
        self.learning: dict[str, Learning] = {}

    def trainable(self, group: str) -> set[str]:
        """All are of the group "lab"."""
        return set(self.learning) if group == "lab" else set()

    def invite(self, device_id: str, invitation: RunInvitation) -> None:
        """Pass it on."""
        self.learning[device_id].invite(invitation)

    def end_run(self, device_ids: Iterable[str], run_id: str) -> None:
        """Pass it on."""
        for device_id in device_ids:
            self.learning[device_id].end_run(run_id)

    @asynccontextmanager
    async def at_work(self, site: Site, runs: Runs, device_id: str) -> AsyncIterator[None]:
        """An agent while the block runs."""
        desk = Desk(site, runs, device_id)
        learning = Learning(
            site.folder / device_id,
            fetch=desk.fetch,
            exchange=desk,
            node_config={"partition-id": DEVICES.index(device_id)},
            clock=lambda: datetime.now(UTC),
        )
        self.learning[device_id] = learning
        task = asyncio.create_task(learning.run(), name=device_id)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_agents_train_together(site: Site, tmp_path: Path) -> None:
    """Agents with workers come to the bits that the same app comes to without them, and keep nothing of the run."""
    agents = Agents()
    runs = site.runs(agents)
    async with AsyncExitStack() as stack:
        task = asyncio.create_task(runs.run(), name="runs")
        for device_id in DEVICES:
            await stack.enter_async_context(agents.at_work(site, runs, device_id))
        run_id = site.start(runs, Fleet(APPS / "mean_app"), rounds=2, min_devices=3)
        record = await end_of(runs, run_id)
        assert (record.state, record.error) == (RunState.FINISHED, "")
        await wait_until_async(lambda: not list(tmp_path.glob("*/learning/runs/*")))
        task.cancel()
        await asyncio.wait([task])
    assert [entry.answered for entry in record.rounds_log] == [3] * 4
    other = Site(tmp_path / "other")
    fleet = Fleet(APPS / "mean_app")
    async with other.coordinator(fleet) as its_runs:
        await end_of(its_runs, other.start(its_runs, fleet, rounds=2, min_devices=3))
    for name, array in other.learned("mean").items():
        assert site.learned("mean")[name].tobytes() == array.tobytes()
