"""Enrollment against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.enrollment import parse_enrollment_string
from edgeward_agent.errors import Interrupted, Misuse, Refused
from edgeward_agent.identity import IdentityStore, enroll
from edgeward_agent.link import GrpcEnrollmentClient
from edgeward_agent.trust import TrustStore
from tests.agent.enrolled import enroll_device
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator
from tests.agent.trust.repository import SimulatedRepository

if TYPE_CHECKING:
    from pathlib import Path


async def enroll_with(text: str, state_dir: Path) -> None:
    await enroll(
        IdentityStore(state_dir / "identity"),
        parse_enrollment_string(text),
        client=GrpcEnrollmentClient(),
        trust=TrustStore(state_dir / "trust"),
        name="pump-7",
        labels={},
    )


async def test_a_token_becomes_an_identity_on_disk(tmp_path: Path) -> None:
    """With the id, the group and the address of the other listener; the CSR came with name and labels."""
    async with SimulatedCoordinator() as coordinator:
        identity = await enroll_device(coordinator, tmp_path)
        assert IdentityStore(tmp_path / "identity").load() == identity
        assert identity.address == coordinator.device_address
        assert identity.group == "lab"
        request = coordinator.enrolled[identity.device_id]
        assert (request.device_name, dict(request.labels)) == ("pump-7", {"site": "hall-3"})


async def test_a_wrong_fingerprint_keeps_the_token_here(tmp_path: Path) -> None:
    """Not a byte of it reaches a server that is not the fleet's."""
    async with SimulatedCoordinator() as coordinator:
        text = coordinator.enrollment_string(fingerprint=SimulatedCA().fingerprint)
        with pytest.raises(Refused, match="the token was not sent"):
            await enroll_with(text, tmp_path)
        assert coordinator.received_tokens == []
    assert not IdentityStore(tmp_path / "identity").is_enrolled


async def test_a_spent_token_is_refused_with_the_coordinators_words(tmp_path: Path) -> None:
    """And no identity is left behind."""
    async with SimulatedCoordinator() as coordinator:
        with pytest.raises(Refused, match="the enrollment token is spent"):
            await enroll_with(coordinator.enrollment_string(uses=0), tmp_path)
    assert not IdentityStore(tmp_path / "identity").is_enrolled


async def test_a_server_certificate_for_other_names_is_explained(tmp_path: Path) -> None:
    """It is the right fleet, and what to change is said; the token was not sent."""
    async with SimulatedCoordinator(names=("coordinator.example",)) as coordinator:
        with pytest.raises(Refused, match="its certificate is for other names"):
            await enroll_with(coordinator.enrollment_string(), tmp_path)
        assert coordinator.received_tokens == []


async def test_a_coordinator_that_is_down_is_a_matter_of_time(tmp_path: Path) -> None:
    """The message names the address."""
    async with SimulatedCoordinator() as coordinator:
        text = coordinator.enrollment_string()
    with pytest.raises(Interrupted, match=f"no coordinator answers at {coordinator.address}"):
        await enroll_with(text, tmp_path)


async def test_a_second_enrollment_needs_force(tmp_path: Path) -> None:
    """The identity in force stays, and the token is not spent."""
    async with SimulatedCoordinator() as coordinator:
        first = await enroll_device(coordinator, tmp_path)
        with pytest.raises(Misuse, match=r"enrolled already.*--force"):
            await enroll_device(coordinator, tmp_path)
        assert coordinator.received_tokens == ["token"]
        assert IdentityStore(tmp_path / "identity").load() == first


async def test_force_makes_another_device_of_it(tmp_path: Path) -> None:
    """With another key."""
    async with SimulatedCoordinator() as coordinator:
        first = await enroll_device(coordinator, tmp_path)
        second = await enroll_device(coordinator, tmp_path, force=True)
    assert second.device_id != first.device_id
    assert second.key_pem != first.key_pem
    assert IdentityStore(tmp_path / "identity").load() == second


async def test_the_root_of_trust_is_on_disk(tmp_path: Path) -> None:
    """The one that the coordinator handed over; another enrollment of the same device keeps it."""
    async with SimulatedCoordinator() as coordinator:
        await enroll_device(coordinator, tmp_path)
        root = coordinator.trust.roots[-1]
        coordinator.trust = SimulatedRepository()
        await enroll_device(coordinator, tmp_path, force=True)
    assert TrustStore(tmp_path / "trust").root() == root


async def test_without_a_root_of_trust_nobody_is_enrolled(tmp_path: Path) -> None:
    """Nothing could ever be installed there."""
    async with SimulatedCoordinator() as coordinator:
        coordinator.trust.roots.append(b"")
        with pytest.raises(Refused, match="root of trust can't be used"):
            await enroll_device(coordinator, tmp_path)
        assert not IdentityStore(tmp_path / "identity").is_enrolled
        coordinator.trust.roots.pop()
        await enroll_device(coordinator, tmp_path)


async def test_a_failed_enrollment_leaves_no_root_behind_that_counts(tmp_path: Path) -> None:
    """A device that never became a member of one fleet becomes one of another."""
    TrustStore(tmp_path / "trust").adopt_root(SimulatedRepository().roots[-1])
    async with SimulatedCoordinator() as coordinator:
        await enroll_device(coordinator, tmp_path)
    assert TrustStore(tmp_path / "trust").root() == coordinator.trust.roots[-1]


async def test_the_token_stands_in_no_representation(tmp_path: Path) -> None:
    """Logs and traces show dataclasses."""
    async with SimulatedCoordinator() as coordinator:
        identity = await enroll_device(coordinator, tmp_path)
    assert "PRIVATE KEY" not in repr(identity)
