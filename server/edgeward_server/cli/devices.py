"""The fleet: `devices token/list/show/watch/revoke/update`."""

from datetime import timedelta
from typing import Annotated

import typer

from edgeward.protocol.enrollment import EnrollmentString, format_enrollment_string
from edgeward.v1 import fleet_pb2
from edgeward_server.cli.arguments import (
    DeviceArgument,
    GroupFilter,
    JsonFlag,
    LabelsOption,
    ReasonOption,
    duration_option,
    read_pairs,
)
from edgeward_server.cli.invocation import Invocation, invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import (
    counters_sheet,
    device_facts,
    devices_sheet,
    events_sheet,
    reported_sheet,
    totals_sheet,
)
from edgeward_server.client import follow, parse_address, whole_lists
from edgeward_server.client import list_devices as list_all_devices
from edgeward_server.terminal.sheets import sheet_as_table

StateFilter = Annotated[str, typer.Option("--state", help="online, offline, enrolled or revoked.", metavar="STATE")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    devices = typer.Typer(help="The devices of the fleet.", no_args_is_help=True)
    devices.command("token")(create_enrollment_token)
    devices.command("list")(list_devices)
    devices.command("show")(show_device)
    devices.command("watch")(watch_devices)
    devices.command("update")(update_device)
    devices.command("revoke")(revoke_device)
    app.add_typer(devices, name="devices")


def create_enrollment_token(
    ctx: typer.Context,
    *,
    group: Annotated[str, typer.Option(help="The group that its devices join.", metavar="NAME")],
    uses: Annotated[int, typer.Option(help="How many devices it may enroll.", min=1)] = 1,
    expires: Annotated[timedelta, duration_option("How long it is valid.", shown_default="1h")] = timedelta(hours=1),
    address: Annotated[
        str, typer.Option(help="Where devices reach the coordinator; else as this context does.", metavar="HOST[:PORT]")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make an enrollment string to paste on devices."""
    invocation = invocation_of(ctx)
    where = _enrollment_address(invocation, address)
    with invocation.connect() as client:
        token = client.fleet.CreateEnrollmentToken(
            fleet_pb2.CreateEnrollmentTokenRequest(group=group, uses=uses, expires_in_s=expires.total_seconds())
        )
    string = format_enrollment_string(
        EnrollmentString(address=where, ca_fingerprint=token.ca_fingerprint, secret=token.secret)
    )
    if as_json:
        plain = {**as_plain(token), "address": where, "enrollment_string": string}
        invocation.screen.show_json(plain)
        return
    invocation.screen.say(string)
    invocation.screen.note(f"Enrolls {uses} device(s) into {group}. On the device: edgeward-agent enroll {string}")


def list_devices(
    ctx: typer.Context,
    *,
    group: GroupFilter = "",
    label: LabelsOption = None,
    state: StateFilter = "",
    as_json: JsonFlag = False,
) -> None:
    """List the devices."""
    invocation = invocation_of(ctx)
    request = fleet_pb2.ListDevicesRequest(group=group, labels=read_pairs(label), state=state)
    with invocation.connect() as client:
        devices = list_all_devices(client, request)
    if as_json:
        invocation.screen.show_json([as_plain(device) for device in devices])
        return
    invocation.screen.show(devices_sheet(devices, invocation.screen.instant))


def show_device(ctx: typer.Context, device: DeviceArgument, *, as_json: JsonFlag = False) -> None:
    """Show one device: what it is, what it runs, what it answered."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        answer = client.fleet.GetDevice(fleet_pb2.GetDeviceRequest(device=device))
    screen = invocation.screen
    if as_json:
        screen.show_json(as_plain(answer))
        return
    screen.show_facts(device_facts(answer.device, screen.instant))
    sheets = (
        reported_sheet(answer.device.reported),
        totals_sheet(answer.totals),
        counters_sheet(answer.counters),
        events_sheet(answer.events, screen.instant),
    )
    for sheet in sheets:
        if sheet.rows:
            screen.say("")
            screen.show(sheet)


def watch_devices(
    ctx: typer.Context,
    *,
    group: GroupFilter = "",
    label: LabelsOption = None,
    state: StateFilter = "",
    as_json: JsonFlag = False,
) -> None:
    """Watch the fleet until interrupted: the list again whenever something in it changes."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    request = fleet_pb2.ListDevicesRequest(group=group, labels=read_pairs(label), state=state)
    with invocation.connect() as client:
        lists = follow(lambda: whole_lists(client.fleet.WatchDevices(request)))
        if as_json:
            for devices in lists:
                screen.show_json([as_plain(device) for device in devices], is_one_of_many=True)
        elif screen.is_terminal:
            with screen.live() as draw:
                for devices in lists:
                    draw(sheet_as_table(devices_sheet(devices, screen.instant)))
        else:
            for devices in lists:
                screen.show(devices_sheet(devices, screen.instant))
                screen.say("")


def update_device(
    ctx: typer.Context,
    device: DeviceArgument,
    *,
    group: Annotated[str, typer.Option(help="Move it to this group.", metavar="NAME")] = "",
    label: Annotated[
        list[str] | None, typer.Option(help="Set a label; an empty value removes it.", metavar="K=V")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a device's group or labels."""
    invocation = invocation_of(ctx)
    labels = read_pairs(label)
    if not group and not labels:
        raise typer.BadParameter("nothing to change; give --group or --label")
    with invocation.connect() as client:
        request = fleet_pb2.UpdateDeviceRequest(device=device, group=group, set_labels=labels)
        updated = client.fleet.UpdateDevice(request).device
    if as_json:
        invocation.screen.show_json(as_plain(updated))
        return
    invocation.screen.show(devices_sheet([updated], invocation.screen.instant))


def revoke_device(
    ctx: typer.Context,
    device: DeviceArgument,
    *,
    reason: ReasonOption = "",
) -> None:
    """Cut a device off, at once and for good; it can only be enrolled anew."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        request = fleet_pb2.RevokeDeviceRequest(device=device, reason=reason)
        device_id = client.fleet.RevokeDevice(request).device_id
    invocation.screen.say(f"Revoked {device_id}.")


def _enrollment_address(invocation: Invocation, given: str) -> str:
    context = invocation.fleet_context()
    if not given and context.uses_certificate:
        raise typer.BadParameter("this context uses the port for certificates; give --address of the one for tokens")
    try:
        return str(parse_address(given or context.address))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
