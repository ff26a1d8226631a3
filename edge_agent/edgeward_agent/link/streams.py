"""Writing to a stream so that, where the other side has ended it, the error says how."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from edgeward_agent.link.errors import error_from_status, hint_in, translated_errors

if TYPE_CHECKING:
    import grpc

Up = TypeVar("Up")
Down = TypeVar("Down")


async def write_to(call: grpc.aio.StreamStreamCall[Up, Down], message: Up) -> None:
    """Write one message; one at a time on a stream.

    Raises:
        Refused: The coordinator has ended the call for good.
        Interrupted: The connection is gone.
    """
    with translated_errors():
        try:
            await call.write(message)
        except asyncio.InvalidStateError as error:
            # grpc.aio only says that the call is over.
            hint = hint_in(await call.trailing_metadata())
            raise error_from_status(await call.code(), await call.details(), hint=hint) from error
