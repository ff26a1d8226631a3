"""Who runs what: `deploy`, `undeploy`, `deployments list`."""

import time
from datetime import timedelta
from typing import Annotated, Final

import typer

from edgeward.v1 import deployment_pb2, fleet_pb2
from edgeward_server.cli.arguments import GroupFilter, GroupOption, JsonFlag, ModelArgument, duration_option
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import deployments_sheet
from edgeward_server.client import Client, Refused, list_devices
from edgeward_server.terminal.screen import Screen

_POLL_S: Final = 0.5


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("deploy")(deploy)
    app.command("undeploy")(undeploy)
    deployments = typer.Typer(help="Which group runs which version.", no_args_is_help=True)
    deployments.command("list")(list_deployments)
    app.add_typer(deployments, name="deployments")


def deploy(
    ctx: typer.Context,
    model: ModelArgument,
    *,
    group: GroupOption,
    again: Annotated[bool, typer.Option("--again", help="Have devices try again what they refused.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until every device of the group serves it.")] = False,
    timeout: Annotated[timedelta, duration_option("How long to wait.", shown_default="5m")] = timedelta(minutes=5),
    as_json: JsonFlag = False,
) -> None:
    """Have every device of a group run a version; without a version the newest."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        request = deployment_pb2.SetDeploymentRequest(group=group, model=model.name, version=model.version, again=again)
        deployment = client.deployments.SetDeployment(request).deployment
        if wait:
            deployment = _wait(client, deployment, timeout, screen)
    if as_json:
        screen.show_json(as_plain(deployment))
        return
    screen.show(deployments_sheet([deployment], screen.instant))


def undeploy(ctx: typer.Context, model: Annotated[str, typer.Argument(metavar="NAME")], *, group: GroupOption) -> None:
    """Have no device of a group run a model any more."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        client.deployments.RemoveDeployment(deployment_pb2.RemoveDeploymentRequest(group=group, model=model))
    invocation.screen.say(f"{group} no longer runs {model}.")


def list_deployments(
    ctx: typer.Context,
    *,
    group: GroupFilter = "",
    model: Annotated[str, typer.Option(help="Only of this model.", metavar="NAME")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List the deployments, and how many devices have reached them."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        request = deployment_pb2.ListDeploymentsRequest(group=group, model=model)
        deployments = client.deployments.ListDeployments(request).deployments
    if as_json:
        invocation.screen.show_json([as_plain(deployment) for deployment in deployments])
        return
    invocation.screen.show(deployments_sheet(deployments, invocation.screen.instant))


def _wait(
    client: Client, deployment: deployment_pb2.Deployment, timeout: timedelta, screen: Screen
) -> deployment_pb2.Deployment:
    request = deployment_pb2.ListDeploymentsRequest(group=deployment.group, model=deployment.model)
    deadline = time.monotonic() + timeout.total_seconds()
    shown = ""
    while True:
        found = client.deployments.ListDeployments(request).deployments
        if not found or found[0].generation != deployment.generation:
            raise Refused("the deployment was changed while this waited", hint="edgeward deployments list shows it")
        progress = f"{found[0].serving} of {found[0].devices} devices serve {deployment.model}:{deployment.version}"
        if progress != shown:
            shown = progress
            screen.note(progress)
        if found[0].serving >= found[0].devices:
            return found[0]
        if found[0].failed + found[0].serving >= found[0].devices or time.monotonic() > deadline:
            raise Refused(f"only {progress}", hint=_who_lacks_it(client, deployment))
        time.sleep(_POLL_S)


def _who_lacks_it(client: Client, deployment: deployment_pb2.Deployment) -> str:
    devices = list_devices(client, fleet_pb2.ListDevicesRequest(group=deployment.group))
    reasons = [f"{device.name}: {_reason(device, deployment)}" for device in devices if device.state != "revoked"]
    return "; ".join(reason for reason in reasons if not reason.endswith(": "))


def _reason(device: fleet_pb2.Device, deployment: deployment_pb2.Deployment) -> str:
    for model in device.reported.models:
        if (model.model, model.version) == (deployment.model, deployment.version):
            return ""
        if model.model == deployment.model and model.error:
            return model.error
    return f"{device.state}, not there yet"
