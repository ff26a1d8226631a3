"""The coordinator's trust and the device's, without a network in between: what one signs the other believes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.trust import Authority, TrustStore, Untrusted
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.trust import TOP_ROLES, Trust
from tests.coordinator.trust.versions import add_version

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.targets import SignedTarget
    from edgeward_coordinator.registry import ModelVersion
    from edgeward_coordinator.storage import BlobStore, Database
    from tests.conftest import SetClock


class Ends:
    """Both, under one clock."""

    def __init__(self, database: Database, blobs: BlobStore, folder: Path, clock: SetClock) -> None:
        self.clock = clock
        self.registry = Registry(database, blobs, folder / "scratch")
        self.trust = Trust(database, self.registry, folder / "coordinator", clock=clock)
        self.trust.ensure()
        store = TrustStore(folder / "device")
        store.adopt_root(self.trust.root())
        self.authority = Authority(store, fetch_metadata=self.fetch, clock=clock, fresh_for=timedelta(0))

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        """`FetchMetadata`, from the coordinator's trust."""
        try:
            content = self.trust.metadata(name)
        except NotFound:
            return None
        assert len(content) <= max_bytes
        return content

    async def authorize(self, version: ModelVersion) -> SignedTarget:
        """As a device whose desired state names the version."""
        return await self.authority.authorize(version.model, version.number, version.flavors[0].flavor)


@pytest.fixture
def ends(database: Database, blobs: BlobStore, tmp_path: Path, clock: SetClock) -> Ends:
    """Nothing is signed yet."""
    clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    return Ends(database, blobs, tmp_path, clock)


async def test_an_approved_version_is_authorized(ends: Ends) -> None:
    """Field by field as it was registered; not before it was approved, and not after it was withdrawn."""
    version = add_version(ends.registry, "digits")
    with pytest.raises(Untrusted, match="is not in the signed metadata"):
        await ends.authorize(version)
    ends.trust.approve("digits", 1, actor="eve")
    assert (await ends.authorize(version)).flavor == version.flavors[0].flavor
    ends.trust.withdraw("digits", 1, actor="eve", reason="bad")
    with pytest.raises(Untrusted, match="is not in the signed metadata"):
        await ends.authorize(version)


async def test_a_year_of_renewals_and_rotations_is_followed(ends: Ends) -> None:
    """By a device that looks now and then."""
    version = add_version(ends.registry, "digits")
    ends.trust.approve("digits", 1, actor="eve")
    for month in range(12):
        ends.clock.advance(timedelta(days=30))
        ends.trust.renew()
        ends.trust.change_role(TOP_ROLES[month % 4], actor="eve")
        if month % 3 == 0:
            await ends.authorize(version)
    await ends.authorize(version)


async def test_a_coordinator_that_renews_nothing_updates_nothing(ends: Ends) -> None:
    """Until it does again."""
    version = add_version(ends.registry, "digits")
    ends.trust.approve("digits", 1, actor="eve")
    ends.clock.advance(timedelta(days=400))
    with pytest.raises(Untrusted, match="expired by this device's clock"):
        await ends.authorize(version)
    ends.trust.renew()
    await ends.authorize(version)


async def test_a_projects_coming_and_going_is_followed(ends: Ends) -> None:
    """Its models move under its key, and back."""
    version = add_version(ends.registry, "vision-gate")
    ends.trust.approve("vision-gate", 1, actor="eve")
    await ends.authorize(version)
    ends.trust.put_project("vision", prefix="vision-", actor="eve")
    await ends.authorize(version)
    ends.trust.remove_project("vision", actor="eve")
    await ends.authorize(version)
