"""Who may operate the fleet: `tokens create/list/revoke/certificate`."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgeward.durable import write_atomic
from edgeward.v1 import access_pb2
from edgeward_server.cli.arguments import JsonFlag, duration_option
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import tokens_sheet
from edgeward_server.client import ClientError, make_request


class RoleName(StrEnum):
    """What an operator may do; each includes the ones before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


RoleOption = Annotated[RoleName, typer.Option("--role", help="What its holder may do.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    tokens = typer.Typer(help="Who may operate the fleet.", no_args_is_help=True)
    tokens.command("create")(create_token)
    tokens.command("list")(list_tokens)
    tokens.command("revoke")(revoke_token)
    tokens.command("certificate")(issue_certificate)
    app.add_typer(tokens, name="tokens")


def create_token(
    ctx: typer.Context,
    name: str,
    *,
    role: RoleOption,
    expires: Annotated[timedelta | None, duration_option("How long it is valid; without: until revoked.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token for a person or a program; it is shown this once."""
    invocation = invocation_of(ctx)
    expires_in_s = expires.total_seconds() if expires else 0
    with invocation.connect() as client:
        made = client.access.CreateToken(
            access_pb2.CreateTokenRequest(name=name, role=role.value, expires_in_s=expires_in_s)
        )
    if as_json:
        invocation.screen.show_json({**as_plain(made.token), "secret": made.secret})
        return
    invocation.screen.say(made.secret)
    invocation.screen.note(f"Token {made.token.id} for {name} ({role}). It is not shown again.")


def list_tokens(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """List tokens and certificates, the revoked ones too."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        tokens = client.access.ListTokens(access_pb2.ListTokensRequest()).tokens
    if as_json:
        invocation.screen.show_json([as_plain(token) for token in tokens])
        return
    invocation.screen.show(tokens_sheet(tokens, invocation.screen.instant))


def revoke_token(ctx: typer.Context, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a token or a certificate at once."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        client.access.RevokeToken(access_pb2.RevokeTokenRequest(id=token_id))
    invocation.screen.say(f"Revoked {token_id}.")


def issue_certificate(
    ctx: typer.Context,
    name: str,
    *,
    role: RoleOption,
    out: Annotated[Path, typer.Option("--out", help="The folder for key, certificate and CA.", file_okay=False)],
    expires: Annotated[timedelta, duration_option("How long it is valid.", shown_default="365d")] = timedelta(days=365),
) -> None:
    """Make a key here and have a client certificate for it signed; the key never leaves this machine."""
    invocation = invocation_of(ctx)
    key_file, certificate_file = out / "key.pem", out / "certificate.pem"
    if key_file.exists() or certificate_file.exists():
        raise ClientError(f"{out} holds a key or a certificate already", hint="choose an empty folder")
    key_pem, csr_pem = make_request(name)
    with invocation.connect() as client:
        issued = client.access.IssueCertificate(
            access_pb2.IssueCertificateRequest(
                name=name, role=role.value, csr_pem=csr_pem, expires_in_s=expires.total_seconds()
            )
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(key_file, key_pem, mode=0o600)
    write_atomic(certificate_file, issued.certificate_pem)
    write_atomic(out / "ca.pem", issued.fleet_ca_pem)
    invocation.screen.say(f"Certificate {issued.id} for {name} ({role}) in {out}.")
    invocation.screen.note(
        f"Use it with: edgeward login HOST --certificate {certificate_file} --key {key_file} --ca-file {out / 'ca.pem'}"
    )
