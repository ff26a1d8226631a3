"""The operator's command line: assembly, and the one place where errors become sentences and exit codes.

Exit codes: 0 done, 1 the coordinator said no, 2 the command line was wrong,
3 nobody to be trusted answered, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import click
import typer

from edgeward_server.cli import (
    audit,
    demo,
    deployments,
    devices,
    login,
    models,
    rollouts,
    runs,
    serve,
    tokens,
    trust,
)
from edgeward_server.cli.invocation import Invocation, invocation_of
from edgeward_server.client import ClientError, NotLoggedIn, Unreachable, Untrusted
from edgeward_server.terminal.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAID_NO: Final = 1
_USAGE: Final = 2
_NOT_REACHED: Final = 3
_INTERRUPTED: Final = 130


def main() -> None:
    """The program `edgeward`."""
    # gRPC's own log lines say on stderr what our errors say in a sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    screen = Screen(sys.stdout, sys.stderr)
    invocation = Invocation(config_folder=_config_folder(environment), environment=environment, screen=screen)
    command = typer.main.get_command(build_app())
    try:
        code = command.main(list(arguments), prog_name="edgeward", standalone_mode=False, obj=invocation)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return _USAGE
    except click.ClickException as error:
        return _report_usage(error, invocation.screen)
    except (click.Abort, KeyboardInterrupt):
        invocation.screen.note("interrupted")
        return _INTERRUPTED
    except (ClientError, OSError) as error:
        return _report(error, invocation)
    return code if isinstance(code, int) else 0


def build_app() -> typer.Typer:
    """All commands."""
    app = typer.Typer(name="edgeward", help="Operate a fleet of edge devices that learn.", no_args_is_help=True)
    app.callback()(_read_common_options)
    for group in (serve, login, tokens, devices, models, trust, deployments, rollouts, runs, audit, demo):
        group.add_to(app)
    return app


def _show_version(ctx: typer.Context, *, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        invocation_of(ctx).screen.say(version("edgeward"))
        raise typer.Exit


def _read_common_options(
    ctx: typer.Context,
    *,
    context: Annotated[str, typer.Option(help="Work with this login instead of the one in use.", metavar="NAME")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the trace of an error.")] = False,
    show_version: Annotated[  # noqa: ARG001 - acts in its callback
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    invocation = invocation_of(ctx)
    invocation.context, invocation.is_verbose = context, verbose


def _report_usage(error: click.ClickException, screen: Screen) -> int:
    screen.note(f"error: {error.format_message()}", style="red")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        screen.note(f"hint: {error.ctx.command_path} --help")
    return _USAGE


def _report(error: ClientError | OSError, invocation: Invocation) -> int:
    screen = invocation.screen
    if invocation.is_verbose:
        screen.note("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, OSError):
        screen.note(f"error: {error.filename or 'the system'}: {error.strerror or error}", style="red")
        return _SAID_NO
    screen.note(f"error: {error.message}", style="red")
    if error.hint:
        screen.note(f"hint: {error.hint}")
    if isinstance(error, NotLoggedIn):
        return _USAGE
    return _NOT_REACHED if isinstance(error, Unreachable | Untrusted) else _SAID_NO


def _config_folder(environment: Mapping[str, str]) -> Path:
    if given := environment.get("EDGEWARD_CONFIG_DIR"):
        return Path(given)
    home = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "edgeward"
