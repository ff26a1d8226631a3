"""`edgeward-agent link metered|unmetered`: what a script of the network knows and the agent does not.

NetworkManager calls scripts in `/etc/NetworkManager/dispatcher.d` when a
connection changes; `edge_agent/README.md` has one. The agent sees the change
within seconds, a download that goes on included.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgeward.durable import write_atomic
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    import argparse

    from edgeward_agent.state_dir import StateDir


def link_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Tell it; without a word, say what was told last."""
    if not state_dir.root.is_dir():
        raise Misuse(f"there is no state directory {state_dir.root}", hint="give that of the agent with --state-dir")
    match parsed.kind:
        case "metered":
            write_atomic(state_dir.metered, b"")
        case "unmetered":
            state_dir.metered.unlink(missing_ok=True)
        case _:
            sys.stdout.write("metered\n" if state_dir.metered.exists() else "unmetered\n")
    return 0
