"""`edgeward-agent feedback`: how good a version's answers were, once the truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_agent.errors import Misuse
from edgeward_agent.serving import Agent

if TYPE_CHECKING:
    import argparse

    from edgeward_agent.state_dir import StateDir


def feedback_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Count it in the telemetry."""
    if not state_dir.root.is_dir():
        raise Misuse(f"there is no state directory {state_dir.root}", hint="give that of the agent with --state-dir")
    with Agent(state_dir.root) as agent:
        agent.feedback(
            parsed.model, version=parsed.version, labelled=parsed.labelled, correct=parsed.correct, flavor=parsed.flavor
        )
    return 0
