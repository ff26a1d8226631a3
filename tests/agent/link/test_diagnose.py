"""Why there is no connection, for each cause that a device can meet."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.errors import AgentError, Interrupted, Refused
from edgeward_agent.link import diagnose_connection
from tests.agent.enrolled import enroll_device
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward_agent.identity import Identity


@pytest.fixture
async def coordinator() -> AsyncIterator[SimulatedCoordinator]:
    """Running."""
    async with SimulatedCoordinator() as running:
        yield running


@pytest.fixture
async def identity(coordinator: SimulatedCoordinator, tmp_path: Path) -> Identity:
    """Of a device of this fleet."""
    return await enroll_device(coordinator, tmp_path)


async def diagnose(identity: Identity, *, now: datetime | None = None, timeout_s: float = 5.0) -> AgentError | None:
    return await asyncio.to_thread(
        diagnose_connection,
        identity.address,
        fleet_ca_pem=identity.fleet_ca_pem,
        now=now or datetime.now(UTC),
        identity=identity,
        timeout_s=timeout_s,
    )


async def test_a_healthy_coordinator_has_no_diagnosis(identity: Identity) -> None:
    """What failed was something else."""
    assert await diagnose(identity) is None


async def test_nothing_listens(coordinator: SimulatedCoordinator, identity: Identity) -> None:
    """The coordinator is down."""
    await coordinator.stop()
    error = await diagnose(identity)
    assert isinstance(error, Interrupted)
    assert f"nothing listens at {identity.address}" in str(error)


async def test_a_name_that_does_not_resolve(identity: Identity) -> None:
    """A name under .invalid never does (RFC 2606)."""
    error = await diagnose(replace(identity, address="coordinator.invalid:7444"))
    assert isinstance(error, Interrupted)
    assert "'coordinator.invalid' can't be resolved" in str(error)


async def test_a_port_that_accepts_and_says_nothing(identity: Identity) -> None:
    """Not for longer than the given time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await diagnose(replace(identity, address=f"127.0.0.1:{silent.getsockname()[1]}"), timeout_s=0.2)
    assert isinstance(error, Interrupted)
    assert "did not answer within 0.2 s" in str(error)


async def test_a_coordinator_of_another_fleet(identity: Identity) -> None:
    """A permanent matter, said as such."""
    async with SimulatedCoordinator(ca=SimulatedCA()) as other:
        error = await diagnose(replace(identity, address=other.device_address))
    assert isinstance(error, Refused)
    assert "is not this fleet's coordinator" in str(error)


async def test_a_coordinator_under_another_name(coordinator: SimulatedCoordinator, identity: Identity) -> None:
    """The same fleet, started without this address among its names."""
    async with SimulatedCoordinator(ca=coordinator.ca, names=("coordinator.example",)) as other:
        error = await diagnose(replace(identity, address=other.device_address))
    assert isinstance(error, Refused)
    assert "its certificate is for other names" in str(error)


async def test_a_coordinator_that_rejects_our_certificate(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """Its TLS is fine and it hangs up on us; it may just be going down, so it is a matter of time."""
    async with SimulatedCoordinator(ca=SimulatedCA()) as other:
        stranger = await enroll_device(other, tmp_path)
    stranger = replace(stranger, address=coordinator.device_address, fleet_ca_pem=coordinator.ca.certificate_pem)
    error = await diagnose(stranger)
    assert isinstance(error, Interrupted)
    assert "hangs up when it sees this device's certificate" in str(error)


async def test_an_expired_certificate_of_ours(coordinator: SimulatedCoordinator, tmp_path: Path) -> None:
    """With the date and what to run."""
    coordinator.lifetime = timedelta(seconds=0)
    expired = await enroll_device(coordinator, tmp_path)
    error = await diagnose(expired, now=datetime.now(UTC) + timedelta(seconds=1))
    assert isinstance(error, Refused)
    assert f"expired on {expired.not_after.isoformat()}" in str(error)
    assert "enroll --force" in str(error)
