"""What stands around every call, unary or stream, written once as a context manager.

Streaming answers are driven from inside the frames (the behaviour's messages
are written here, not by gRPC's loop behind it): so an error, a refusal or a cut
in the middle of a stream passes through the frames like any other.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from edgeward_server.threads import to_its_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour = Callable[[Any, Context], Awaitable[Any]]


class Frame(Protocol):
    """Entered before a call's behaviour, left after it, also by an exception."""

    def __call__(self, method: str, context: Context) -> AbstractAsyncContextManager[None]:
        """Of one call."""


class FrameInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic for the checker only
    """Puts frames around every call; the first is the outermost."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = tuple(frames)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Find the call's handler and wrap it; None, for a method that nobody serves, stays None."""
        handler = await continuation(handler_call_details)
        return _wrap(handler, handler_call_details.method, self._frames) if handler is not None else handler


def _wrap(handler: Handler, method: str, frames: Sequence[Frame]) -> Handler:
    make, behaviour = _parts(handler)
    inner = _written(behaviour) if handler.response_streaming else behaviour

    async def framed(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        async with AsyncExitStack() as stack:
            for frame in frames:
                await stack.enter_async_context(frame(method, context))
            return await inner(request, context)

    return make(framed, handler.request_deserializer, handler.response_serializer)


def _written(behaviour: Callable[[Any, Context], Any]) -> Behaviour:
    """A streaming behaviour as one that writes its messages itself."""

    async def write_all(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
        # By themselves and never cancelled: a first message that is cancelled on its way leaves gRPC thinking that
        # no headers were sent; it sends them again with the status, which fails, and the client waits for ever.
        await to_its_end(context.send_initial_metadata(()))
        answers = behaviour(request, context)
        if not hasattr(answers, "__aiter__"):
            await answers  # of gRPC's other style, which writes already
            return
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    return write_all


def _parts(handler: Handler) -> tuple[Callable[..., Handler], Any]:
    """How to make a handler of this arity, and its behaviour."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, handler.unary_unary
        case False, True:
            return grpc.unary_stream_rpc_method_handler, handler.unary_stream
        case True, False:
            return grpc.stream_unary_rpc_method_handler, handler.stream_unary
        case _:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream
