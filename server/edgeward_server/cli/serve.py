"""`serve`: the coordinator itself."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgeward_server.cli.arguments import duration_option
from edgeward_server.client import DEVICE_PORT, OPERATOR_PORT, ClientError


class LogFormatName(StrEnum):
    """How the log is written."""

    JSON = "json"
    CONSOLE = "console"


class ApprovalName(StrEnum):
    """Who may approve a version."""

    ANY = "any"
    OTHER = "other"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("serve")(serve)


def serve(
    *,
    data_dir: Annotated[Path, typer.Option(file_okay=False, metavar="DIR", help="Where it keeps what it keeps.")],
    # A URL may hold a password, which should not stand in the list of processes.
    database_url: Annotated[
        str,
        typer.Option(
            envvar="EDGEWARD_DATABASE_URL", metavar="URL", help="postgresql+psycopg://…; without: SQLite in DIR."
        ),
    ] = "",
    object_store: Annotated[
        str,
        typer.Option(
            envvar="EDGEWARD_OBJECT_STORE", metavar="URL", help="s3://bucket/prefix; without: a folder in DIR."
        ),
    ] = "",
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="For tokens and enrollment; 0: a free one.")
    ] = OPERATOR_PORT,
    device_port: Annotated[
        int, typer.Option(min=0, max=65535, help="For devices and client certificates; 0: a free one.")
    ] = DEVICE_PORT,
    advertise: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which it is reached, for its certificate; may be given again."),
    ] = None,
    heartbeat_s: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often devices say they live.")
    ] = 30,
    device_certificate_lifetime: Annotated[
        timedelta, duration_option("Devices renew at two thirds of it.", shown_default="90d")
    ] = timedelta(days=90),
    approval: Annotated[
        ApprovalName,
        typer.Option(help="Who approves a version: anybody with the role, or another one than who pushed it."),
    ] = ApprovalName.ANY,
    log_format: Annotated[LogFormatName, typer.Option(help="For machines or for people.")] = LogFormatName.CONSOLE,
    log_level: Annotated[
        LogLevel, typer.Option(case_sensitive=False, help="The least that is logged.")
    ] = LogLevel.INFO,
) -> None:
    """Run the coordinator, until SIGTERM or Ctrl-C. Its first start prints the first admin's token."""
    # The other commands are clients, and start faster without the server's libraries.
    from edgeward_coordinator.errors import CoordinatorError
    from edgeward_server.config import ServerConfig
    from edgeward_server.serve import serve as serve_until_stopped

    try:
        config = ServerConfig(
            data_dir=data_dir.resolve(),
            database_url=database_url or None,
            object_store=object_store or None,
            host=host,
            port=port,
            device_port=device_port,
            advertise=tuple(advertise or ()),
            heartbeat_s=heartbeat_s,
            device_certificate_lifetime=device_certificate_lifetime,
            approval=approval.value,
            log_format=log_format.value,
            log_level=log_level.value,
        )
        serve_until_stopped(config)
    except CoordinatorError as error:
        raise ClientError(error.message, hint=error.hint) from error
