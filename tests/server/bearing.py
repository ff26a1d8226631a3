"""A token as metadata of every call, for channels of asyncio: see `edgeward_server.client.call_terms` for why."""

from __future__ import annotations

from typing import Any

import grpc


def bearing(token: str) -> list[Any]:
    """Interceptors that say who calls, one for each kind of call; none for an empty token."""
    kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream) if token else ()
    return [kind(token) for kind in kinds]


class _Bearing:
    def __init__(self, token: str) -> None:
        self._token = token

    async def _with_token(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {self._token}"))
        return await continuation(details._replace(metadata=metadata), request)


class _UnaryUnary(_Bearing, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_unary = _Bearing._with_token  # type: ignore[assignment]


class _UnaryStream(_Bearing, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_stream = _Bearing._with_token  # type: ignore[assignment]


class _StreamUnary(_Bearing, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_unary = _Bearing._with_token  # type: ignore[assignment]


class _StreamStream(_Bearing, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_stream = _Bearing._with_token  # type: ignore[assignment]
