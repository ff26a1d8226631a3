"""`edgeward-agent`: the command line on the device. It parses and calls; nothing else lives here."""

from edgeward_agent.cli.main import main

__all__ = ["main"]
