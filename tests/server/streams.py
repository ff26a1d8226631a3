"""Calls that a test writes and reads by itself; grpc's type stubs know only those that are given an iterator."""

from __future__ import annotations

from typing import Any

import grpc

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def open_stream(method: Any, **options: Any) -> Any:
    """A call of a bidirectional method, to write to and read from."""
    return method(**options)


async def read_to_the_end(call: Any) -> None:
    """Whatever comes."""
    while await call.read() is not EOF:
        pass
