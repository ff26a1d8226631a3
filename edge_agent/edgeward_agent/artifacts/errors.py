"""What an installation says no with."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeward_agent.errors import Interrupted, Misuse, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class InstallError(Refused):
    """This flavor of this version can't serve here, and trying again alone does not help."""


class FetchInterrupted(Interrupted):
    """The installation stopped midway; what has arrived is kept, and the next attempt goes on from there."""


class BadDelivery(FetchInterrupted):
    """What was sent is not what was signed, or it was not sent at all: the fault of the peer or of the network.

    It says nothing of the model, so it is tried again, and honest bytes are taken whenever they come.
    """


class DiskFull(FetchInterrupted):
    """There is no room for the model; an attempt succeeds once somebody has made some."""


class QuotaExceeded(DiskFull):
    """The disk has room, and the owner's limit on all models together has not."""


class StateInUse(Misuse):
    """Another agent works on this state directory."""


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Say in words that the disk failed while `what` was changed.

    Raises:
        DiskFull: There is no room.
        FetchInterrupted: Anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"the disk is full: {what} stays as it is ({error.strerror})", hint="make room") from error
        raise FetchInterrupted(f"{what} could not be written: {error.strerror or error}") from error
