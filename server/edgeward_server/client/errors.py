"""What a call to the coordinator can end with, in sentences that an operator can act on.

By who must act: the caller (`Refused`: the coordinator answered, and said no;
`NotLoggedIn`), the peer (`Untrusted`: whoever answered is not the fleet that
this context knows), time (`Unreachable`: nobody answered).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

# Where gRPC carries a serialised google.rpc.Status.
_DETAILS_KEY: Final = "grpc-status-details-bin"


class ClientError(Exception):
    """Base. `message` says what was wrong, `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class Refused(ClientError):
    """The coordinator said no. `status` is gRPC's name for why, in lower case: "not_found"."""

    def __init__(self, message: str, *, hint: str = "", status: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NotLoggedIn(ClientError):
    """There is no context to use."""


class Untrusted(ClientError):
    """Who answers at the address is not the fleet that was expected there."""


class Unreachable(ClientError):
    """Nobody answered at the address, or not in time."""


def explain(error: grpc.RpcError, address: str) -> ClientError:
    """Turn what gRPC raised into the error of who must act.

    Args:
        error: From a call or the iteration over its answers.
        address: Where the call went, for the message.
    """
    call = cast("grpc.Call", error)  # what the sync API raises is both
    code, details = call.code(), call.details() or ""
    status = _rich_status(call)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(f"{address} did not answer in time", hint="is the coordinator overloaded? Try again")
    if code is grpc.StatusCode.UNAVAILABLE and status is None:
        return _explain_connection(details, address)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Refused(f"the server at {address} does not know this call", hint="is it of the same version?")
    name = code.name.lower()
    hint = _hint_of(status) if status is not None else ""
    if code is grpc.StatusCode.UNAUTHENTICATED and not hint:
        hint = f"log in again: edgeward login {address}"
    return Refused(details or name.replace("_", " "), hint=hint, status=name)


def _explain_connection(details: str, address: str) -> ClientError:
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return Untrusted(
            f"the server at {address} has no valid certificate of the fleet that this context knows",
            hint="if the fleet was set up anew, log in again: edgeward login",
        )
    if "Hostname Verification" in details or "is not in peer certificate" in details:
        return Untrusted(
            f"the server's certificate does not name {address.rpartition(':')[0]}",
            hint="use a name that it has, or start it with --advertise NAME",
        )
    if "lookup" in details:
        return Unreachable(f"the name in {address} can't be resolved", hint="check the address for typing errors")
    return Unreachable(
        f"no coordinator answers at {address}",
        hint="is it running, can this machine reach it, and is this the port for tokens (or for certificates)?",
    )


def _rich_status(call: grpc.Call) -> status_pb2.Status | None:
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _hint_of(status: status_pb2.Status) -> str:
    return next((hint for hint in map(_hint_in, status.details) if hint), "")


def _hint_in(detail: AnyMessage) -> str:
    info = error_details_pb2.ErrorInfo()
    if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
        return str(info.metadata.get("hint", ""))
    return ""
