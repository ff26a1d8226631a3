"""`edgeward-agent feedback`: how good a version's answers were, once the truth is known."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import models_on_disk
from edgeward_agent.errors import Misuse
from edgeward_agent.serving import Agent

if TYPE_CHECKING:
    import argparse

    from edgeward_agent.state_dir import StateDir


def feedback_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Count it in the telemetry."""
    if not state_dir.root.is_dir():
        raise Misuse(f"there is no state directory {state_dir.root}", hint="give that of the agent with --state-dir")
    known = models_on_disk(state_dir.models)
    if parsed.model not in known:
        # A typo would be labels that never come back, and a rollout that waits for them.
        raise Misuse(f"no model {parsed.model!r} is on this device", hint=f"there are: {', '.join(known) or 'none'}")
    with Agent(state_dir.root) as agent:
        agent.feedback(
            parsed.model, version=parsed.version, labelled=parsed.labelled, correct=parsed.correct, flavor=parsed.flavor
        )
    counted = f"{parsed.correct} of {parsed.labelled} right, of {parsed.model} version {parsed.version}"
    sys.stdout.write(f"counted: {counted}\n")
    return 0
