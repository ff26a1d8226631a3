"""`demo`: whole journeys on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from edgeward_server.cli.invocation import invocation_of

AppOption = Annotated[
    Path, typer.Option("--app", exists=True, file_okay=False, help="The Flower app whose model and data are used.")
]
KeepFlag = Annotated[bool, typer.Option("--keep", help="Leave the fleet running for a look around.")]
StopFlag = Annotated[bool, typer.Option("--stop", help="End what --keep left running.")]

_DIGITS = Path("examples/digits")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Whole journeys on this machine, with real processes.", invoke_without_command=True)
    group.callback()(demo)
    group.command("rollout")(demo_rollout)
    app.add_typer(group, name="demo")


def demo(
    ctx: typer.Context,
    *,
    work_dir: Annotated[Path, typer.Option(file_okay=False, help="Where everything of it goes.")] = Path(".demo"),
    app: AppOption = _DIGITS,
    devices: Annotated[int, typer.Option(min=2, max=50, help="How many agents; the last one runs TFLite.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Of federated training.")] = 8,
    keep: KeepFlag = False,
    stop: StopFlag = False,
) -> None:
    """Enroll, train, compress, deploy, predict offline, report: with real processes, in a few minutes."""
    if ctx.invoked_subcommand is not None:
        return
    # Only the demo needs numpy and what starts processes.
    from edgeward_server.demo import DemoOptions, run_demo, stop_demo

    invocation = invocation_of(ctx)
    if stop:
        stop_demo(work_dir, screen=invocation.screen)
        return
    options = DemoOptions(folder=work_dir, app=app, devices=devices, rounds=rounds, keep=keep)
    raise typer.Exit(run_demo(options, screen=invocation.screen, environment=invocation.environment))


def demo_rollout(
    ctx: typer.Context,
    *,
    work_dir: Annotated[Path, typer.Option(file_okay=False, help="Where everything of it goes.")] = Path(
        ".demo-rollout"
    ),
    app: AppOption = _DIGITS,
    devices: Annotated[int, typer.Option(min=2, max=50, help="How many agents.")] = 8,
    keep: KeepFlag = False,
    stop: StopFlag = False,
) -> None:
    """A good version goes out in phases; a bad one is stopped at the canary and rolled back by itself."""
    from edgeward_server.demo import RolloutDemoOptions, run_rollout_demo, stop_demo

    invocation = invocation_of(ctx)
    if stop:
        stop_demo(work_dir, screen=invocation.screen)
        return
    options = RolloutDemoOptions(folder=work_dir, app=app, devices=devices, keep=keep)
    raise typer.Exit(run_rollout_demo(options, screen=invocation.screen, environment=invocation.environment))
