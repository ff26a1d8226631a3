"""`demo`: the whole journey on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from edgeward_server.cli.invocation import invocation_of


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


def demo(
    ctx: typer.Context,
    *,
    work_dir: Annotated[Path, typer.Option(file_okay=False, help="Where everything of it goes.")] = Path(".demo"),
    app: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The Flower app to train.")] = Path(
        "examples/digits"
    ),
    devices: Annotated[int, typer.Option(min=2, max=50, help="How many agents; the last one runs TFLite.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Of federated training.")] = 8,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the fleet running for a look around.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End what --keep left running.")] = False,
) -> None:
    """Enroll, train, compress, deploy, predict offline, report: with real processes, in a few minutes."""
    # Only the demo needs numpy and what starts processes.
    from edgeward_server.demo import DemoOptions, run_demo, stop_demo

    invocation = invocation_of(ctx)
    if stop:
        stop_demo(work_dir, screen=invocation.screen)
        return
    options = DemoOptions(folder=work_dir, app=app, devices=devices, rounds=rounds, keep=keep)
    raise typer.Exit(run_demo(options, screen=invocation.screen, environment=invocation.environment))
