"""Follow a server's stream across its restarts."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

_PATIENCE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 5.0


def follow(open_stream: Callable[[], Iterable[T]], *, patience_s: float = _PATIENCE_S) -> Iterator[T]:
    """What a stream says, opened again where the connection breaks, until it ends by itself.

    For streams that begin with how things are now, so nothing is missed in between.

    Args:
        open_stream: Makes the call.
        patience_s: How long nobody may answer before that is an error.

    Raises:
        grpc.RpcError: The coordinator said no, or was away for too long.
    """
    last_heard = time.monotonic()
    pause_s = 0.2
    while True:
        try:
            for item in open_stream():
                last_heard, pause_s = time.monotonic(), 0.2
                yield item
            return
        except grpc.RpcError as error:
            is_away = getattr(error, "code", lambda: None)() is grpc.StatusCode.UNAVAILABLE
            if not is_away or time.monotonic() - last_heard > patience_s:
                raise
        time.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads retries, hides nothing
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
