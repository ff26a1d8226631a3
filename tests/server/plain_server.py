"""A gRPC server without TLS and without a domain, for what stands around calls."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from edgeward_server.interception import FrameInterceptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def serving(
    *frames: Any, service: str = "t", arity: str = "", **behaviours: Callable[[Any, Any], Any]
) -> AsyncIterator[Any]:
    """A server whose methods are plain functions, and a channel to it (of bytes, which the type stubs do not know).

    Args:
        frames: Around every call.
        service: Its only service.
        arity: Of all methods ("unary_stream"); empty: a method's name begins with its own.
        behaviours: The methods.
    """
    server = grpc.aio.server(interceptors=[FrameInterceptor(frames)])
    handlers = {}
    for name, behaviour in behaviours.items():
        make = getattr(grpc, (arity or "_".join(name.split("_")[:2])) + "_rpc_method_handler")
        handlers[name] = make(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
