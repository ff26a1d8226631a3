"""A deployment in phases, with gates: `rollouts plan/start/list/show/watch/pause/resume/abort/promote/rollback`."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edgeward.v1 import deployment_pb2
from edgeward_server.cli.arguments import GroupFilter, GroupOption, JsonFlag, ReasonOption, reader
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.parsing import ModelReference, parse_model_reference
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rollout_sheets import (
    OVER,
    change_in_words,
    gates_sheet,
    news_in_words,
    phases_sheet,
    rollout_devices_sheet,
    rollout_facts,
    rollouts_sheet,
)
from edgeward_server.cli.rollout_view import LiveRollout
from edgeward_server.client import Client, ClientError, Refused, follow
from edgeward_server.terminal.screen import Screen

RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="The id of a rollout.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    rollouts = typer.Typer(help="Deployments in phases, with gates.", no_args_is_help=True)
    rollouts.command("plan")(show_plan)
    rollouts.command("start")(start_rollout)
    rollouts.command("list")(list_rollouts)
    rollouts.command("show")(show_rollout)
    rollouts.command("watch")(watch_rollout)
    for name, action, text in (
        ("pause", "pause", "Admit no further device and pass no phase; a gate that fails still rolls back."),
        ("resume", "resume", "Go on with a paused rollout."),
        ("abort", "abort", "Stop it where it is: devices that have succeeded keep the new version."),
        (
            "promote",
            "promote",
            "End the present phase as passed, whatever its gates say; name it, for it may have passed.",
        ),
        ("rollback", "roll_back", "Return every device to its former version."),
    ):
        rollouts.command(name, help=text)(_control_by(action))
    app.add_typer(rollouts, name="rollouts")


def show_plan(ctx: typer.Context) -> None:
    """Print the plan that is followed where none is given, to be edited."""
    # The other commands start faster without the coordinator's libraries.
    from edgeward_coordinator.rollouts.plan import DEFAULT_PLAN_TOML

    invocation_of(ctx).screen.say(DEFAULT_PLAN_TOML.rstrip())


def start_rollout(
    ctx: typer.Context,
    reference: Annotated[
        ModelReference | None,
        typer.Argument(parser=reader(parse_model_reference), metavar="[NAME[:VERSION]]", help="Or by options."),
    ] = None,
    *,
    group: GroupOption,
    model: Annotated[str, typer.Option(help="Its name.", metavar="NAME")] = "",
    version: Annotated[int, typer.Option(help="0: the newest that may be deployed.", min=0)] = 0,
    plan: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE.toml", help="Without: see `rollouts plan`."),
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Wait for a rollout that is under way.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show how it goes until it has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring a version to a group in phases; a phase whose gates fail returns every device to its former version."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    wanted = _which(reference, model, version)
    request = deployment_pb2.StartRolloutRequest(
        model=wanted.name, version=wanted.version, group=group, plan_toml=_read_plan(plan), queue=queue
    )
    with invocation.connect() as client:
        rollout = client.deployments.StartRollout(request).rollout
        if watch:
            screen.note(f"rollout {rollout.id} goes on if you leave; edgeward rollouts watch {rollout.id}")
            rollout = _follow(client, rollout.id, screen, is_quiet=as_json)
    if as_json:
        screen.show_json(as_plain(rollout))
    elif not watch:
        screen.say(rollout.id)
        phases = ", ".join(phase.name for phase in rollout.phases)
        screen.note(f"{rollout.group}: {rollout.group_devices} devices, in phases {phases}")
        if not rollout.group_devices:
            screen.note(f"warning: no device is in group {rollout.group}; is that its name?")
        screen.note(f"edgeward rollouts watch {rollout.id} shows how it goes")
    if watch:
        _report_end(rollout, screen, is_quiet=as_json)


def list_rollouts(
    ctx: typer.Context,
    *,
    group: GroupFilter = "",
    model: Annotated[str, typer.Option(help="Only of this model.", metavar="NAME")] = "",
    live: Annotated[bool, typer.Option("--live", help="Only those that have not ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the rollouts, the newest first."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        request = deployment_pb2.ListRolloutsRequest(group=group, model=model, live_only=live)
        rollouts = client.deployments.ListRollouts(request).rollouts
    if as_json:
        invocation.screen.show_json([as_plain(rollout) for rollout in rollouts])
        return
    invocation.screen.show(rollouts_sheet(rollouts, invocation.screen.instant))


def show_rollout(ctx: typer.Context, rollout_id: RolloutArgument, *, as_json: JsonFlag = False) -> None:
    """Show a rollout: its phases, gates and devices."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        request = deployment_pb2.GetRolloutRequest(rollout_id=rollout_id)
        rollout = client.deployments.GetRollout(request).rollout
    if as_json:
        screen.show_json(as_plain(rollout))
        return
    screen.show_facts(rollout_facts(rollout, screen.instant))
    judged = [gates_sheet(phase) for phase in rollout.phases]
    for sheet in (phases_sheet(rollout), *judged, rollout_devices_sheet(rollout, screen.instant)):
        if sheet.rows:
            screen.say("")
            screen.show(sheet)


def watch_rollout(ctx: typer.Context, rollout_id: RolloutArgument, *, as_json: JsonFlag = False) -> None:
    """Show how a rollout goes until it has ended; exit code 1 if it was rolled back or aborted."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        rollout = _follow(client, rollout_id, screen, as_json=as_json)
    _report_end(rollout, screen, is_quiet=as_json)


def _control_by(action: str) -> Callable[..., None]:
    def control(
        ctx: typer.Context,
        rollout_id: RolloutArgument,
        *,
        reason: ReasonOption = "",
        phase: Annotated[
            str, typer.Option(help="Only if this phase is the present one.", metavar="NAME", show_default=False)
        ] = "",
        as_json: JsonFlag = False,
    ) -> None:
        invocation = invocation_of(ctx)
        request = deployment_pb2.ControlRolloutRequest(rollout_id=rollout_id, action=action, reason=reason, phase=phase)
        with invocation.connect() as client:
            rollout = client.deployments.ControlRollout(request).rollout
        if as_json:
            invocation.screen.show_json(as_plain(rollout))
            return
        present = rollout.phases[rollout.phase].name
        invocation.screen.say(f"Rollout {rollout.id}: {rollout.state.replace('_', ' ')}, phase {present!r}.")

    return control


def _which(reference: ModelReference | None, model: str, version: int) -> ModelReference:
    if (reference is None) == (not model):
        raise typer.BadParameter("name the model once: NAME:VERSION, or --model NAME --version N")
    if reference is None:
        return ModelReference(name=model, version=version)
    if version:
        raise typer.BadParameter(f"--version belongs to --model; write {reference.name}:{version}")
    return reference


def _read_plan(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        text = file.read_text(encoding="utf-8")
        if not text.strip():
            raise typer.BadParameter(f"{file} is empty; edgeward rollouts plan prints one to begin with")
        return text
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is no text in UTF-8") from error


def _follow(
    client: Client, rollout_id: str, screen: Screen, *, as_json: bool = False, is_quiet: bool = False
) -> deployment_pb2.Rollout:
    request = deployment_pb2.WatchRolloutRequest(rollout_id=rollout_id)
    changes = (answer.rollout for answer in follow(lambda: client.deployments.WatchRollout(request)))
    if is_quiet:
        rollout = next(iter(deque(changes, maxlen=1)), None)
    elif as_json:
        rollout = _print(changes, screen)
    else:
        rollout = _draw(changes, screen) if screen.is_terminal else _tell(changes, screen)
    if rollout is None or rollout.state not in OVER:
        raise ClientError(f"the coordinator no longer tells of rollout {rollout_id}", hint="edgeward rollouts show it")
    return rollout


def _draw(changes: Iterable[deployment_pb2.Rollout], screen: Screen) -> deployment_pb2.Rollout | None:
    rollout = None
    with screen.live() as draw:
        for rollout in changes:
            draw(LiveRollout(rollout, lambda: datetime.now(UTC)))
    return rollout


def _tell(changes: Iterable[deployment_pb2.Rollout], screen: Screen) -> deployment_pb2.Rollout | None:
    known = None
    for rollout in changes:
        for line in news_in_words(known, rollout):
            screen.say(line)
        known = rollout
    return known


def _print(changes: Iterable[deployment_pb2.Rollout], screen: Screen) -> deployment_pb2.Rollout | None:
    rollout = None
    for rollout in changes:
        screen.show_json(as_plain(rollout), is_one_of_many=True)
    return rollout


def _report_end(rollout: deployment_pb2.Rollout, screen: Screen, *, is_quiet: bool) -> None:
    if rollout.state != "succeeded":
        why = rollout.reason or "no reason was given"
        raise Refused(
            f"rollout {rollout.id} was {rollout.state.replace('_', ' ')}: {why}",
            hint=f"edgeward rollouts show {rollout.id}",
        )
    if not is_quiet:
        screen.say(f"Rollout {rollout.id} succeeded: {rollout.group} runs {change_in_words(rollout)}.")
