"""What may run, and who signs it: `trust show/keygen/rotate/projects/export/sign/import`.

`keygen` and `sign` are for a machine without a network: they need no login and
make no connection.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgeward.durable import write_atomic
from edgeward.v1 import trust_pb2
from edgeward_server.cli.arguments import JsonFlag
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.trust_sheets import (
    description_sheets,
    doubts_in_words,
    keys_sheet,
    roles_sheet,
    waiting_in_words,
)
from edgeward_server.client import ClientError
from edgeward_server.terminal.screen import Screen

if TYPE_CHECKING:
    from edgeward_coordinator.trust import RoleDescription

PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        exists=True,
        dir_okay=False,
        metavar="PUB.pem",
        help="May be given again; without, the coordinator makes a key and holds it.",
    ),
]

_ENCRYPTED: Final = b"ENCRYPTED"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    trust = typer.Typer(help="Signed metadata: what devices may install, and whose keys say so.", no_args_is_help=True)
    trust.command("show")(show_trust)
    trust.command("keygen")(make_key)
    trust.command("rotate")(rotate_role)
    projects = typer.Typer(help="Teams that sign the models of a name prefix.", no_args_is_help=True)
    projects.command("add")(add_project)
    projects.command("remove")(remove_project)
    trust.add_typer(projects, name="projects")
    trust.command("export")(export_pending)
    trust.command("sign")(sign_pending)
    trust.command("import")(import_signed)
    app.add_typer(trust, name="trust")


def show_trust(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Show the roles, their keys, and what waits for a signature."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        trust = client.trust.GetTrust(trust_pb2.GetTrustRequest())
    if as_json:
        screen.show_json(as_plain(trust))
        return
    screen.show(roles_sheet(trust.roles, screen.instant))
    screen.say("")
    screen.show(keys_sheet(trust.keys, trust.roles))


def make_key(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(dir_okay=False, metavar="FILE", help="For the private key, as in team.pem.")],
    *,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Ask for a password that opens it.")] = False,
) -> None:
    """Make a signing key here; no connection is made."""
    # The other commands start faster without the coordinator's libraries.
    from edgeward_coordinator.trust import generate_key

    public_file = file.with_name(f"{file.name.removesuffix('.pem')}.pub.pem")
    for path in (file, public_file):
        _verify_absent(path)
    screen = invocation_of(ctx).screen
    private_pem, public_pem = generate_key(_ask_password(screen, file) if encrypt else None)
    write_atomic(file, private_pem, mode=0o600)
    write_atomic(public_file, public_pem)
    screen.say(str(public_file))
    screen.note(f"The private key is in {file}: keep it where only you can read it. The other file is for everybody.")


def rotate_role(
    ctx: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot, timestamp or a project.")],
    *,
    add: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, metavar="PUB.pem", help="A new key; may be given again."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="KEYID", help="A key that goes, by the beginning of its id.")
    ] = None,
    threshold: Annotated[int, typer.Option(min=0, help="How many keys must sign; 0: as it is.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Change whose keys sign for a role; with no option, the coordinator's own key is replaced by a new one.

    Devices follow, also those that were away for several rotations.
    """
    invocation = invocation_of(ctx)
    request = trust_pb2.ChangeRoleRequest(
        role=role,
        add_public_pem=[path.read_bytes() for path in add or ()],
        remove_key_ids=remove or [],
        threshold=threshold,
    )
    with invocation.connect() as client:
        waiting = client.trust.ChangeRole(request).waiting_for_roles
    _show_change(invocation.screen, f"The keys of {role} are changed.", waiting, as_json=as_json)


def add_project(
    ctx: typer.Context,
    name: str,
    *,
    prefix: Annotated[str, typer.Option(help="Models whose names begin so are its own.", metavar="PREFIX")],
    key: PublicKeys = None,
    threshold: Annotated[int, typer.Option(min=0, help="How many of its keys must sign; 0: as it is, 1 if new.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Give the models of a name prefix to a team's keys; no other key signs them from then on."""
    invocation = invocation_of(ctx)
    request = trust_pb2.PutProjectRequest(
        name=name, prefix=prefix, public_pem=[path.read_bytes() for path in key or ()], threshold=threshold
    )
    with invocation.connect() as client:
        waiting = client.trust.PutProject(request).waiting_for_roles
    _show_change(invocation.screen, f"{name} signs the models {prefix}*.", waiting, as_json=as_json)


def remove_project(ctx: typer.Context, name: str, *, as_json: JsonFlag = False) -> None:
    """Take a project's role away; its models belong to the role `targets` again."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        waiting = client.trust.RemoveProject(trust_pb2.RemoveProjectRequest(name=name)).waiting_for_roles
    _show_change(invocation.screen, f"{name} is no project any more.", waiting, as_json=as_json)


def export_pending(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(dir_okay=False, metavar="FILE", help="To be carried to the keys.")],
) -> None:
    """Write what waits for signatures into a file; it holds no secret."""
    invocation = invocation_of(ctx)
    _verify_absent(file)
    with invocation.connect() as client:
        document = client.trust.ExportPending(trust_pb2.ExportPendingRequest()).document
    if not document:
        raise ClientError("nothing waits for a signature")
    write_atomic(file, document)
    invocation.screen.say(str(file))
    invocation.screen.note(f"Where the key is: edgeward trust sign {file} --key KEY.pem; then: edgeward trust import")


def sign_pending(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="From `trust export`.")],
    *,
    key: Annotated[
        list[Path], typer.Option(exists=True, dir_okay=False, metavar="KEY.pem", help="May be given again.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Sign without a question; for scripts.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what an exported file asks for and what changes by it, and add a key's signatures to it, in place.

    No connection is made.
    """
    from edgeward_coordinator.errors import CoordinatorError
    from edgeward_coordinator.trust import describe_document, sign_document

    screen = invocation_of(ctx).screen
    document = file.read_bytes()
    keys = [_read_private_key(screen, path) for path in key]
    try:
        _show_descriptions(screen, describe_document(document, keys), as_json=as_json)
        if not yes:
            _confirm_signing(screen, file)
        for private_pem, password in keys:
            document = sign_document(document, private_pem, password)
    except CoordinatorError as error:
        raise ClientError(error.message, hint=error.hint) from error
    write_atomic(file, document)
    screen.note(f"Signed. Where the coordinator is reached: edgeward trust import {file}")


def import_signed(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="Signed.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Bring signatures back; what has enough of them is in force at once."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        answer = client.trust.ImportSigned(trust_pb2.ImportSignedRequest(document=file.read_bytes()))
    if as_json:
        invocation.screen.show_json(as_plain(answer))
        return
    invocation.screen.say(f"In force: {', '.join(answer.published_roles) or 'nothing new'}.")
    if answer.waiting_for_roles:
        invocation.screen.note(waiting_in_words(answer.waiting_for_roles))


def _show_change(screen: Screen, sentence: str, waiting: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        screen.show_json({"waiting_for_roles": list(waiting)})
        return
    screen.say(sentence if not waiting else f"{sentence.removesuffix('.')}, once it is signed.")
    if waiting:
        screen.note(waiting_in_words(waiting))


def _show_descriptions(screen: Screen, descriptions: Sequence["RoleDescription"], *, as_json: bool) -> None:
    if as_json:
        screen.show_json({"roles": [asdict(each) for each in descriptions]})
        return
    for each in descriptions:
        for sheet in description_sheets(each):
            screen.show(sheet)
            screen.say("")
        doubts = doubts_in_words(each)
        if doubts:
            screen.note(doubts, style="yellow")


def _confirm_signing(screen: Screen, file: Path) -> None:
    # Who does not see what is shown can't agree to it.
    if not (sys.stdin.isatty() and screen.is_terminal):
        raise ClientError(
            f"{file} is not signed: nobody is here to look at it and agree",
            hint="run it in a terminal, or give --yes once what is shown is what you want to sign",
        )
    if not typer.confirm("Sign?", default=False, err=True):
        raise ClientError(f"{file} is not signed")


def _read_private_key(screen: Screen, path: Path) -> tuple[bytes, bytes | None]:
    private_pem = path.read_bytes()
    return private_pem, _ask_password(screen, path) if _ENCRYPTED in private_pem else None


def _ask_password(screen: Screen, file: Path) -> bytes:
    password = screen.ask_secret(f"Password of {file}: ")
    if not password:
        raise ClientError(f"no password for {file}", hint="run it in a terminal, where it can be asked for")
    return password.encode()


def _verify_absent(path: Path) -> None:
    if path.exists():
        raise ClientError(f"{path} exists already", hint="choose another name")
