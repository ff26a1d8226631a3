"""Streams that outlive their server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward_server.client import follow

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ended(grpc.RpcError):
    """What a call ends with, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._code


def test_a_stream_that_breaks_is_opened_again() -> None:
    """What came before is kept, what comes after follows."""
    calls = []

    def open_stream() -> Iterator[int]:
        calls.append(1)
        yield len(calls)
        if len(calls) < 3:
            raise Ended(grpc.StatusCode.UNAVAILABLE)

    assert list(follow(open_stream)) == [1, 2, 3]


def test_a_refusal_is_not_tried_again() -> None:
    """Only absence is worth waiting for."""
    calls = []

    def open_stream() -> Iterator[int]:
        calls.append(1)
        raise Ended(grpc.StatusCode.NOT_FOUND)

    with pytest.raises(Ended):
        list(follow(open_stream))
    assert len(calls) == 1


def test_a_server_that_stays_away_is_an_error() -> None:
    """Patience ends."""

    def open_stream() -> Iterator[int]:
        raise Ended(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(Ended):
        list(follow(open_stream, patience_s=0))
