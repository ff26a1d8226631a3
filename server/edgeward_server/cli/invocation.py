"""One invocation of the command line: what `main` knows and every command needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from edgeward_server.client import Client, Contexts, connected, exposed_file, load_contexts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    import typer

    from edgeward_server.client import FleetContext
    from edgeward_server.terminal.screen import Screen


@dataclass(slots=True, kw_only=True)
class Invocation:
    """`context` and `is_verbose` are filled in by the options before the command.

    `environment` is for the processes that a command starts, and nothing else.
    """

    config_folder: Path
    environment: Mapping[str, str]
    screen: Screen
    context: str = ""
    is_verbose: bool = False

    def contexts(self) -> Contexts:
        """All contexts of this operator."""
        return load_contexts(self.config_folder)

    def fleet_context(self) -> FleetContext:
        """The context that this invocation works with."""
        if exposed := exposed_file(self.config_folder):
            self.screen.note(f"warning: others may read the tokens in {exposed}; mend it: chmod 600 {exposed}")
        return self.contexts().pick(self.context)

    def connect(self) -> AbstractContextManager[Client]:
        """A client of the fleet that this invocation works with."""
        return connected(self.fleet_context())


def invocation_of(context: typer.Context) -> Invocation:
    """The invocation that `main` put into Typer's context."""
    return cast("Invocation", context.obj)
