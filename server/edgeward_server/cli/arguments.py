"""The arguments and options that several commands share, as Typer's annotations.

No `from __future__ import annotations` here or in the command modules: Typer
reads the annotations while it runs.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar, cast

import typer
from typer.models import OptionInfo

from edgeward_server.cli.parsing import (
    ModelReference,
    parse_model_reference,
    parse_pair,
    parse_positive_duration,
)

T = TypeVar("T")


def reader(parse: Callable[[str], T]) -> Callable[[str | T], T]:
    """A pure parser as what Typer calls: its ValueError becomes a usage error; a default passes as it is."""

    def convert(value: str | T) -> T:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return convert


JsonFlag = Annotated[bool, typer.Option("--json", help="Machine output.")]
GroupFilter = Annotated[str, typer.Option("--group", help="Only of this group.", metavar="NAME")]
GroupOption = Annotated[str, typer.Option("--group", help="The group of devices.", metavar="NAME")]
ModelArgument = Annotated[
    ModelReference, typer.Argument(parser=reader(parse_model_reference), metavar="NAME[:VERSION]")
]
LabelsOption = Annotated[list[str] | None, typer.Option("--label", help="A label; may be given again.", metavar="K=V")]
DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Its id, or a name that only one device has.")]


ReasonOption = Annotated[str, typer.Option("--reason", help="For the audit log.", metavar="TEXT")]


def duration_option(text: str, *, shown_default: str = "") -> OptionInfo:
    """An option that takes a duration."""
    option = typer.Option(
        parser=reader(parse_positive_duration), metavar="DURATION", help=text, show_default=shown_default or True
    )
    return cast("OptionInfo", option)


def read_pairs(texts: list[str] | None) -> dict[str, str]:
    """Repeated `KEY=VALUE` options; the last of a key counts."""
    return dict(map(reader(parse_pair), texts or ()))
