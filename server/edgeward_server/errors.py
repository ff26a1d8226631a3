"""From what went wrong to a gRPC status with rich details, in one place.

Details, all of google.rpc: `ErrorInfo` (the family as `reason`; the hint in its
metadata), `RequestInfo` (the request's id, as in the logs), `RetryInfo` where
time will mend it. What nobody foresaw becomes INTERNAL with that id and nothing
else: the trace is in the log, for those who may read it.
"""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from edgeward.protocol.errors import HINT_KEY, WireError
from edgeward_coordinator.errors import (
    AlreadyExists,
    CoordinatorError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from edgeward_server.logs import current_request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from google.protobuf.message import Message

_LOG = structlog.stdlib.get_logger(__name__)

DOMAIN = "edgeward"

STATUSES: dict[type[CoordinatorError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}

# HTTP/2 peers bound the headers that they take; gRPC's bound is 8 KiB for all of them, and these travel twice.
_MAX_CHARACTERS = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a client is told."""

    code: grpc.StatusCode
    message: str
    hint: str = ""
    retry_after: timedelta | None = None


@asynccontextmanager
async def mapped(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with the status of the error that leaves it; cancellation passes."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # noqa: BLE001 - the outermost frame of an RPC
        refusal = refusal_of(innermost(error))
        if refusal.code is grpc.StatusCode.INTERNAL:
            _LOG.error("incident", method=method, exc_info=error)
        await context.abort(refusal.code, refusal.message, metadata_of(refusal))


def refusal_of(error: BaseException) -> Refusal:
    """What to tell of `error`."""
    match error:
        case CoordinatorError():
            return Refusal(
                code=_code_of(error),
                message=_shortened(error.message),
                hint=_shortened(error.hint),
                retry_after=error.retry_after if isinstance(error, Unavailable) else None,
            )
        case WireError():
            return Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, message=_shortened(str(error)))
        case OSError(errno=errno.ENOSPC):
            return Refusal(
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                message="the coordinator's disk is full",
                hint="what was acknowledged is safe; free some space, then try again",
            )
        case _:
            return Refusal(
                code=grpc.StatusCode.INTERNAL,
                message=f"something went wrong in the coordinator (incident {current_request_id()})",
                hint="its log has the whole story under that number",
            )


def metadata_of(refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    """The rich details; and the hint once more, for clients that go without google.rpc's classes (devices)."""
    status = rpc_status.to_status(_rich_status(refusal))
    hint = ((HINT_KEY, refusal.hint.encode()),) if refusal.hint else ()
    return (*status.trailing_metadata, *hint)


def _rich_status(refusal: Refusal) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=refusal.code.name, domain=DOMAIN)
    if refusal.hint:
        info.metadata["hint"] = refusal.hint
    details: list[Message] = [info, error_details_pb2.RequestInfo(request_id=current_request_id())]
    if refusal.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(refusal.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=refusal.code.value[0], message=refusal.message, details=[_packed(detail) for detail in details]
    )


def _code_of(error: CoordinatorError) -> grpc.StatusCode:
    return next((code for family, code in STATUSES.items() if isinstance(error, family)), grpc.StatusCode.UNKNOWN)


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def innermost(error: BaseException) -> BaseException:
    """What one task of a group raised, where it was the only one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
