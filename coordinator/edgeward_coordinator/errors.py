"""What the domain says no with; families by who must act.

The caller: `InvalidArgument`, `NotFound`, `AlreadyExists`, `FailedPrecondition`,
`PermissionDenied`, `Unauthenticated`. Time: `Unavailable`, which carries
`retry_after`. The server maps each to one gRPC status in one interceptor, so a
domain module never thinks of statuses.
"""

from __future__ import annotations

from datetime import timedelta


class CoordinatorError(Exception):
    """Base. `message` says what was wrong with the value in it, `hint` what to do instead."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InvalidArgument(CoordinatorError):
    """The request can't be right, whatever the state of the fleet."""


class NotFound(CoordinatorError):
    """What the request names does not exist."""


class AlreadyExists(CoordinatorError):
    """What the request would create exists."""


class FailedPrecondition(CoordinatorError):
    """The request may be right at another time or after another step."""


class Unauthenticated(CoordinatorError):
    """It is not known who asks."""


class PermissionDenied(CoordinatorError):
    """It is known who asks, and that they may not."""


class Unavailable(CoordinatorError):
    """Something that the coordinator needs is away for now."""

    def __init__(self, message: str, *, hint: str = "", retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
