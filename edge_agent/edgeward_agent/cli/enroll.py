"""`edgeward-agent enroll STRING`."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

from edgeward.protocol.enrollment import parse_enrollment_string
from edgeward_agent.config import parse_assignments
from edgeward_agent.identity import IdentityStore, enroll
from edgeward_agent.link import GrpcEnrollmentClient
from edgeward_agent.trust import TrustStore

if TYPE_CHECKING:
    import argparse

    from edgeward_agent.state_dir import StateDir


def enroll_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Become a member of a fleet."""
    parts = parse_enrollment_string(parsed.string)
    labels = parse_assignments(parsed.label, what="--label")
    state_dir.root.mkdir(parents=True, exist_ok=True)
    identity = asyncio.run(
        enroll(
            IdentityStore(state_dir.identity),
            parts,
            client=GrpcEnrollmentClient(),
            trust=TrustStore(state_dir.trust),
            name=parsed.name or socket.gethostname(),
            labels=labels,
            force=parsed.force,
        )
    )
    until = identity.not_after.isoformat(timespec="seconds")
    sys.stdout.write(
        f"enrolled as {identity.device_id} ({identity.name}) in group {identity.group}, certificate valid until {until}"
        f"\nstart the agent with: edgeward-agent run --state-dir {state_dir.root}\n"
    )
    if parsed.force:
        sys.stdout.write("an agent that runs already takes this up within minutes, or at once when it is restarted\n")
    return 0
