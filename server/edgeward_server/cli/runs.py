"""Federated runs: `runs start/list/show/watch/stop`."""

import io
from collections import deque
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.digests import digest_of
from edgeward.v1 import federation_pb2
from edgeward_server.cli.arguments import GroupFilter, GroupOption, JsonFlag, duration_option, read_pairs
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.parsing import as_toml_value
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import round_in_words, rounds_sheet, run_facts, runs_sheet
from edgeward_server.client import Client, ClientError, Refused, follow, upload
from edgeward_server.terminal.screen import Screen
from edgeward_server.terminal.sheets import sheet_as_table

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    runs = typer.Typer(help="Federated training.", no_args_is_help=True)
    runs.command("start")(start_run)
    runs.command("list")(list_runs)
    runs.command("show")(show_run)
    runs.command("watch")(watch_run)
    runs.command("stop")(stop_run)
    app.add_typer(runs, name="runs")


def start_run(
    ctx: typer.Context,
    app_folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, metavar="DIR", help="A Flower app, with its pyproject.toml.")
    ],
    *,
    group: GroupOption,
    rounds: Annotated[int, typer.Option(help="How many; without: as the app says.", min=0)] = 0,
    run_config: Annotated[
        list[str] | None, typer.Option(help="A setting of the app; may be given again.", metavar="K=V")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random; 0: drawn.", min=0)] = 0,
    min_devices: Annotated[int, typer.Option(help="Wait until so many are online.", min=1)] = 1,
    round_timeout: Annotated[
        timedelta, duration_option("How long a round waits for devices.", shown_default="10m")
    ] = timedelta(minutes=10),
    model: Annotated[str, typer.Option(help="The model that results; without: as the app says.", metavar="NAME")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Print the run's id and leave it to itself.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a Flower app on the devices of a group, and show how it goes."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    bundle = _pack(app_folder)
    request = federation_pb2.StartRunRequest(
        group=group,
        bundle_sha256=digest_of(bundle),
        rounds=rounds,
        run_config={key: as_toml_value(value) for key, value in read_pairs(run_config).items()},
        seed=seed,
        model=model,
        min_devices=min_devices,
        round_timeout_s=round_timeout.total_seconds(),
    )
    with invocation.connect() as client:
        with screen.transfer(app_folder.name, len(bundle)) as on_progress:
            source = io.BytesIO(bundle)
            upload(client, source, digest=digest_of(bundle), total_bytes=len(bundle), on_progress=on_progress)
        run = client.federation.StartRun(request).run
        if not detach:
            screen.note(f"run {run.id} goes on if you leave; edgeward runs stop {run.id} ends it")
            run = _follow(client, run.id, screen, is_quiet=as_json)
    if as_json:
        screen.show_json(as_plain(run))
    elif detach:
        screen.say(run.id)
    if not detach:
        _report_end(run, screen, is_quiet=as_json)


def list_runs(ctx: typer.Context, *, group: GroupFilter = "", as_json: JsonFlag = False) -> None:
    """List the runs."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        runs = client.federation.ListRuns(federation_pb2.ListRunsRequest(group=group)).runs
    if as_json:
        invocation.screen.show_json([as_plain(run) for run in runs])
        return
    invocation.screen.show(runs_sheet(runs, invocation.screen.instant))


def show_run(ctx: typer.Context, run_id: RunArgument, *, as_json: JsonFlag = False) -> None:
    """Show a run and its rounds."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        run = client.federation.GetRun(federation_pb2.GetRunRequest(run_id=run_id)).run
    if as_json:
        screen.show_json(as_plain(run))
        return
    screen.show_facts(run_facts(run, screen.instant))
    if run.rounds_log:
        screen.say("")
        screen.show(rounds_sheet(run.rounds_log))


def watch_run(ctx: typer.Context, run_id: RunArgument, *, as_json: JsonFlag = False) -> None:
    """Show how a run goes until it has ended."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        if as_json:
            for answer in client.federation.WatchRun(federation_pb2.GetRunRequest(run_id=run_id)):
                screen.show_json(as_plain(answer.run), is_one_of_many=True)
            return
        run = _follow(client, run_id, screen)
    _report_end(run, screen)


def stop_run(ctx: typer.Context, run_id: RunArgument) -> None:
    """End a run; what its finished rounds gave is lost to it."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        run = client.federation.StopRun(federation_pb2.StopRunRequest(run_id=run_id)).run
    invocation.screen.say(f"Run {run.id}: {run.state}.")


def _pack(app_folder: Path) -> bytes:
    try:
        return pack_bundle(app_folder)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _follow(client: Client, run_id: str, screen: Screen, *, is_quiet: bool = False) -> federation_pb2.Run:
    request = federation_pb2.GetRunRequest(run_id=run_id)
    changes = (answer.run for answer in follow(lambda: client.federation.WatchRun(request)))
    if is_quiet:
        run = next(iter(deque(changes, maxlen=1)), None)
    else:
        run = _draw(changes, screen) if screen.is_terminal else _tell(changes, screen)
    if run is None:
        raise ClientError(f"the coordinator said nothing of the run {run_id}", hint=f"edgeward runs show {run_id}")
    return run


def _draw(changes: Iterable[federation_pb2.Run], screen: Screen) -> federation_pb2.Run | None:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rounds"), TimeElapsedColumn()
    )
    task = bar.add_task("waiting")
    run = None
    with screen.live() as draw:
        for run in changes:
            bar.update(task, description=run.activity or run.state, completed=run.rounds_done, total=run.rounds or None)
            draw(Group(bar, sheet_as_table(rounds_sheet(run.rounds_log))))
    return run


def _tell(changes: Iterable[federation_pb2.Run], screen: Screen) -> federation_pb2.Run | None:
    told = 0
    run = None
    for run in changes:
        for each in run.rounds_log[told:]:
            screen.say(round_in_words(each, run.rounds))
        told = len(run.rounds_log)
    return run


def _report_end(run: federation_pb2.Run, screen: Screen, *, is_quiet: bool = False) -> None:
    if run.state != "finished":
        raise Refused(f"run {run.id} {run.state}: {run.error or 'it was stopped'}", hint=f"edgeward runs show {run.id}")
    if is_quiet:
        return
    made = f"; it made {run.model}:{run.version}" if run.version else ""
    screen.say(f"Run {run.id} finished after {run.rounds_done} rounds{made}.")
