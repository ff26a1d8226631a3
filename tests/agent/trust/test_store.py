"""The folder behind the trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward_agent.errors import Refused
from edgeward_agent.trust import Floor, Floors, TrustStore, Untrusted
from tests.agent.trust.repository import SimulatedRepository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.trust.device import Device


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    """Empty."""
    return TrustStore(tmp_path / "trust")


def test_the_first_root_is_adopted(store: TrustStore, repository: SimulatedRepository) -> None:
    """And found again by whoever opens the folder."""
    store.adopt_root(repository.roots[0])
    assert TrustStore(store.folder).root() == repository.roots[0]


def test_a_root_that_is_there_is_kept(store: TrustStore, repository: SimulatedRepository) -> None:
    """Enrolling again brings no other root to a device."""
    store.adopt_root(repository.roots[0])
    store.adopt_root(SimulatedRepository().roots[0])
    assert store.root() == repository.roots[0]


def test_a_damaged_root_is_replaced(store: TrustStore, repository: SimulatedRepository) -> None:
    """Enrolling again repairs."""
    store.adopt_root(repository.roots[0])
    (store.folder / "root.json").write_bytes(b"{}")
    store.adopt_root(repository.roots[0])
    assert store.root() == repository.roots[0]


def test_damaged_floors_are_given_up_by_enrolling_again(store: TrustStore, repository: SimulatedRepository) -> None:
    """Until then nothing is believed."""
    store.adopt_root(repository.roots[0])
    (store.folder / "floors.json").write_bytes(b"")
    with pytest.raises(Untrusted, match=r"floors.json is damaged .*enroll --force"):
        store.floors()
    store.adopt_root(repository.roots[0])
    assert store.floors() == Floors()


def test_a_device_that_is_not_enrolled_yet_takes_the_root_of_its_last_attempt(
    store: TrustStore, repository: SimulatedRepository
) -> None:
    """With nothing left of the attempt before."""
    store.adopt_root(SimulatedRepository().roots[0])
    store.persist_floors(Floors(roles={"root": Floor(version=9)}))
    store.adopt_root(repository.roots[0], replace=True)
    assert store.root() == repository.roots[0]
    assert store.floors() == Floors()


@pytest.mark.parametrize("kind", ["nothing", "garbage", "other metadata", "below its threshold"])
def test_what_is_no_root_is_refused(store: TrustStore, repository: SimulatedRepository, kind: str) -> None:
    """Before anything is written."""
    if kind == "below its threshold":
        repository = SimulatedRepository(root_keys=2, root_threshold=2)
        repository.publish_root(signers=repository.signers["root"][:1])
    data = {
        "nothing": b"",
        "garbage": b"\xff" * 1000,
        "other metadata": repository.files["timestamp.json"],
        "below its threshold": repository.roots[-1],
    }[kind]
    with pytest.raises(Refused, match="the coordinator's root of trust can't be used"):
        store.adopt_root(data)
    assert not store.folder.exists()


async def test_a_device_without_a_root_says_what_to_do(device: Device) -> None:
    """It has an identity, and nothing to verify with."""
    (device.folder / "root.json").unlink()
    with pytest.raises(Untrusted, match=r"has no root of trust .*; run edgeward-agent enroll --force"):
        await device.authorize()
