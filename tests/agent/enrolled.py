"""A device that is enrolled with the simulated coordinator, for tests of the link and of the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.enrollment import parse_enrollment_string
from edgeward_agent.identity import Identity, IdentityStore, enroll
from edgeward_agent.link import GrpcEnrollmentClient
from edgeward_agent.trust import TrustStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.simulator import SimulatedCoordinator


async def enroll_device(
    coordinator: SimulatedCoordinator, state_dir: Path, *, name: str = "pump-7", force: bool = False
) -> Identity:
    """Through the real enrollment."""
    return await enroll(
        IdentityStore(state_dir / "identity"),
        parse_enrollment_string(coordinator.enrollment_string()),
        client=GrpcEnrollmentClient(),
        trust=TrustStore(state_dir / "trust"),
        name=name,
        labels={"site": "hall-3"},
        force=force,
    )
