"""The audit log: `audit show/verify`."""

from typing import Annotated

import typer

from edgeward.v1 import audit_pb2
from edgeward_server.cli.arguments import JsonFlag
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import audit_sheet
from edgeward_server.client import Refused


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    audit = typer.Typer(help="The log of every change.", no_args_is_help=True)
    audit.command("show")(show_entries)
    audit.command("verify")(verify_chain)
    app.add_typer(audit, name="audit")


def show_entries(
    ctx: typer.Context,
    *,
    after: Annotated[int, typer.Option(help="Only entries with higher numbers.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="At most so many; 0: all.", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show the log, oldest entry first."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        entries = list(client.audit.ListEntries(audit_pb2.ListEntriesRequest(after=after, limit=limit)))
    if as_json:
        invocation.screen.show_json([as_plain(entry) for entry in entries])
        return
    invocation.screen.show(audit_sheet(entries, invocation.screen.instant))


def verify_chain(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Walk the whole chain; note the head's hash elsewhere, and a later log must still contain it."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        # The whole chain is read: as long as that takes.
        verdict = client.audit.VerifyChain(audit_pb2.VerifyChainRequest(), timeout=3600)
    if as_json:
        invocation.screen.show_json(as_plain(verdict))
    if not verdict.intact:
        raise Refused(
            f"the audit log is broken at entry {verdict.first_broken}: {verdict.problem}",
            hint="compare with a backup before anything else is changed",
        )
    if not as_json:
        invocation.screen.say(f"{verdict.entries} entries, intact; head {verdict.head_hash}")
