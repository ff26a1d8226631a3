"""The operator's command line `edgeward`: it parses, calls the client, and shows what came back.

One module a group of commands; `app` puts them together.
"""

from edgeward_server.cli.app import main

__all__ = ["main"]
