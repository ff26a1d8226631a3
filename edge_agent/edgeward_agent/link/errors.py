"""gRPC's ways to fail as the agent's errors: `Refused` (the coordinator said no) or `Interrupted` (time)."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from edgeward.protocol.errors import HINT_KEY, WireError
from edgeward_agent.errors import AgentError, Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What saying the same again won't change. All else, INTERNAL and UNKNOWN included, is a matter of time: a device
# must come back by itself from whatever its coordinator went through.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class NotThere(Refused):
    """The coordinator does not have what was asked for."""


def hint_in(metadata: Iterable[Any] | None) -> str:
    """The coordinator's hint among a call's trailing metadata; empty where there is none."""
    value = next((value for key, value in metadata or () if key == HINT_KEY), b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def error_from_status(code: grpc.StatusCode, details: str, *, hint: str = "") -> AgentError:
    """The agent's error for how a call ended."""
    if code in _REFUSALS:
        refusal = NotThere if code is grpc.StatusCode.NOT_FOUND else Refused
        return refusal(details or f"the coordinator refused ({code.name})", hint=hint)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Interrupted("the coordinator did not answer in time")
    return Interrupted(f"the connection to the coordinator failed ({details or code.name})")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn whatever grpc.aio raises inside into `Refused` or `Interrupted`.

    grpc.aio raises CancelledError from a call whose channel was closed under it;
    that is told from this task's own cancellation, which passes through.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        hint = hint_in(error.trailing_metadata())
        raise error_from_status(error.code(), error.details() or "", hint=hint) from error
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        raise Interrupted("the connection to the coordinator was closed") from error
    except TimeoutError as error:
        raise Interrupted("the coordinator did not answer in time") from error
    except WireError as error:
        raise Interrupted(f"the coordinator sent something unreadable: {error}") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Interrupted("the connection to the coordinator was closed") from None
