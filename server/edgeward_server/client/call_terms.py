"""What goes with every call of an operator: who calls, and until when an answer is awaited."""

from __future__ import annotations

from typing import Any, Final

import grpc

DEADLINE_S: Final = 30.0


class CallTerms(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]  # generic in the annotations only, as the others
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Says who calls, and gives every unary call that has no deadline of its own the usual one.

    The token goes along as metadata, and not as gRPC's call credentials, which would say the same on the wire: they
    are a plugin that is destroyed under Python's lock on a thread of gRPC's, and closing a channel, which holds that
    lock, waits for that thread: now and then a close never returned (grpc/grpc#42247).

    Args:
        token: The operator's; empty where a certificate says who calls.
    """

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401
        """One request, one answer."""
        timeout_s = DEADLINE_S if client_call_details.timeout is None else client_call_details.timeout
        return continuation(self._authorized(client_call_details)._replace(timeout=timeout_s), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401
        """One request, a stream of answers."""
        return continuation(self._authorized(client_call_details), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:  # noqa: ANN401
        """A stream of requests, one answer."""
        return continuation(self._authorized(client_call_details), request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:  # noqa: ANN401
        """Streams both ways."""
        return continuation(self._authorized(client_call_details), request_iterator)

    def _authorized(self, details: Any) -> Any:  # noqa: ANN401 - gRPC's named tuple, which has no public type
        return details._replace(metadata=(*(details.metadata or ()), *self._metadata))
