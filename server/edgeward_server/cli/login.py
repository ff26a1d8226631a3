"""Come in: `login`, `whoami`, `contexts`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeward.v1 import access_pb2
from edgeward_server.cli.arguments import JsonFlag
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.client import (
    DEVICE_PORT,
    OPERATOR_PORT,
    Address,
    FleetContext,
    connected,
    fetch_presented_certificates,
    find_fleet_ca,
    fingerprint_of,
    parse_address,
    persist_contexts,
    verify_pair,
)
from edgeward_server.terminal.screen import Screen
from edgeward_server.terminal.sheets import Sheet

ExistingFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("login")(login)
    app.command("whoami")(show_identity)
    contexts = typer.Typer(help="The fleets that you are logged in to.", no_args_is_help=True)
    contexts.command("list")(list_contexts)
    contexts.command("use")(use_context)
    contexts.command("remove")(remove_context)
    app.add_typer(contexts, name="contexts")


def login(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where the coordinator listens.")],
    *,
    token: Annotated[str, typer.Option(help="The operator token; `-` reads it from stdin.", metavar="TOKEN")] = "",
    ca_fingerprint: Annotated[
        str, typer.Option(help="SHA-256 of the fleet CA, as the server printed it.", metavar="HEX")
    ] = "",
    ca_file: ExistingFile = None,
    certificate: ExistingFile = None,
    key: ExistingFile = None,
    context: Annotated[str, typer.Option(help="A name for this login; else the address.", metavar="NAME")] = "",
) -> None:
    """Log in to a fleet, by a token or by a client certificate and its key."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--certificate and --key belong together")
    if certificate is not None and token:
        raise typer.BadParameter("either --token or --certificate")
    if certificate is not None and key is not None:
        _verify_pair(certificate, key)
    invocation = invocation_of(ctx)
    where = _read_address(address, DEVICE_PORT if certificate else OPERATOR_PORT)
    ca_pem = ca_file.read_text() if ca_file else _learn_ca(invocation.screen, where, ca_fingerprint)
    fleet = FleetContext(
        address=str(where),
        ca_pem=ca_pem,
        token="" if certificate else _read_token(invocation.screen, token),
        certificate_file=str(certificate.resolve()) if certificate else "",
        key_file=str(key.resolve()) if key else "",
    )
    name = context or str(where)
    try:
        contexts = invocation.contexts().with_context(name, fleet)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with connected(fleet) as client:
        identity = client.access.WhoAmI(access_pb2.WhoAmIRequest())
    persist_contexts(invocation.config_folder, contexts)
    invocation.screen.say(f"Logged in to {where} as {identity.name} ({identity.role}); context {name}.")


def show_identity(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Show as whom the coordinator knows you."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        identity = client.access.WhoAmI(access_pb2.WhoAmIRequest())
    if as_json:
        invocation.screen.show_json({**as_plain(identity), "address": client.address})
        return
    facts = [
        ("name", identity.name),
        ("role", identity.role),
        ("fleet", client.address),
        ("server", identity.server_version),
    ]
    invocation.screen.show_facts(facts)


def list_contexts(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """List the contexts; the one in use is marked."""
    invocation = invocation_of(ctx)
    contexts = invocation.contexts()
    rows = [
        (name, fleet.address, "certificate" if fleet.uses_certificate else "token", name == contexts.current)
        for name, fleet in sorted(contexts.by_name.items())
    ]
    if as_json:
        keys = ("name", "address", "by", "in_use")
        invocation.screen.show_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    shown = [("*" if in_use else "", name, address, by) for name, address, by, in_use in rows]
    invocation.screen.show(Sheet(columns=("in use", "name", "address", "by"), rows=shown))


def use_context(ctx: typer.Context, name: str) -> None:
    """Work with another fleet from now on."""
    invocation = invocation_of(ctx)
    persist_contexts(invocation.config_folder, invocation.contexts().using(name))


def remove_context(ctx: typer.Context, name: str) -> None:
    """Forget a login; the token itself stays valid until it is revoked."""
    invocation = invocation_of(ctx)
    persist_contexts(invocation.config_folder, invocation.contexts().without(name))


def _verify_pair(certificate: Path, key: Path) -> None:
    try:
        verify_pair(certificate.read_bytes(), key.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"{error} ({certificate}, {key})") from error


def _read_address(text: str, default_port: int) -> Address:
    try:
        return parse_address(text, default_port=default_port)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _learn_ca(screen: Screen, address: Address, fingerprint: str) -> str:
    chain = fetch_presented_certificates(address)
    if not fingerprint:
        fingerprint = fingerprint_of(chain[-1])
        screen.note(f"The fleet CA at {address} has the fingerprint\n  {fingerprint}")
        if not screen.ask("Is this what the server printed at its start?"):
            raise typer.BadParameter("the fleet CA is not confirmed; give --ca-fingerprint or --ca-file")
    return find_fleet_ca(chain, fingerprint)


def _read_token(screen: Screen, given: str) -> str:
    token = sys.stdin.readline().strip() if given == "-" else given or screen.ask_secret("Token: ")
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise typer.BadParameter("no token; give --token, or --token - and the token on stdin")
    return token
