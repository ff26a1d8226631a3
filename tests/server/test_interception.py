"""The frames around every call, over a real server: errors to statuses, endings from outside, logs."""

from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from edgeward.protocol import WireError
from edgeward_agent.link.errors import hint_in
from edgeward_coordinator.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from edgeward_server.errors import mapped
from edgeward_server.logs import logged
from edgeward_server.running import RunningCalls
from tests.server.plain_server import serving
from tests.server.streams import read_to_the_end
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Behaviour = Callable[[Any, Any], Any]


async def failure(answer: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """How a call ends that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value


def raising(error: BaseException) -> Behaviour:
    """A unary behaviour that fails."""

    async def fail(_request: bytes, _context: object) -> bytes:
        raise error

    return fail


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The rich details by their message's name."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.RequestInfo)
    found = {}
    for detail in status.details:
        for kind in kinds:
            message = kind()
            if detail.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("no"), grpc.StatusCode.NOT_FOUND),
        (AlreadyExists("no"), grpc.StatusCode.ALREADY_EXISTS),
        (FailedPrecondition("no"), grpc.StatusCode.FAILED_PRECONDITION),
        (Unauthenticated("no"), grpc.StatusCode.UNAUTHENTICATED),
        (PermissionDenied("no"), grpc.StatusCode.PERMISSION_DENIED),
        (Unavailable("no"), grpc.StatusCode.UNAVAILABLE),
        (WireError("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (ExceptionGroup("of a task group", [NotFound("no")]), grpc.StatusCode.NOT_FOUND),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
async def test_each_family_has_its_status(error: Exception, code: grpc.StatusCode) -> None:
    """An error of the domain reaches the client as the status of its family, with its own message."""
    async with serving(mapped, unary_unary_fail=raising(error)) as channel:
        ended = await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
    assert (ended.code(), ended.details()) == (code, "no")


async def test_hint_and_retry_travel_as_rich_details() -> None:
    """A client is told what to do, when to try again, and the request's id; the hint also in plain metadata."""
    error = Unavailable("away", hint="wait äöü", retry_after=timedelta(seconds=7))
    async with serving(logged, mapped, unary_unary_fail=raising(error)) as channel:
        ended = await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
    details = details_of(ended)
    assert details["ErrorInfo"].reason == "UNAVAILABLE"
    assert details["ErrorInfo"].metadata["hint"] == "wait äöü"
    assert details["RetryInfo"].retry_delay.ToTimedelta() == timedelta(seconds=7)
    assert len(details["RequestInfo"].request_id) == 16
    assert hint_in(ended.trailing_metadata()) == "wait äöü"


async def test_long_message_is_shortened_rather_than_lost() -> None:
    """A message that HTTP/2 headers could not carry arrives cut off, with its status."""
    async with serving(mapped, unary_unary_fail=raising(NotFound("x" * 100_000, hint="y" * 100_000))) as channel:
        ended = await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
    assert ended.code() is grpc.StatusCode.NOT_FOUND
    assert (ended.details() or "").endswith("x…")


async def test_full_disk_is_told_in_words() -> None:
    """A full disk is RESOURCE_EXHAUSTED with a sentence."""
    error = OSError(errno.ENOSPC, "No space left on device")
    async with serving(mapped, unary_unary_fail=raising(error)) as channel:
        ended = await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
    assert (ended.code(), ended.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "the coordinator's disk is full")


async def test_unforeseen_error_shows_only_its_incident_number() -> None:
    """A mistake of ours is INTERNAL with a number; what it was is in the log under that number, and only there."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with serving(logged, mapped, unary_unary_fail=raising(KeyError("secret"))) as channel:
            ended = await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
    incident = next(entry for entry in logs if entry["event"] == "incident")
    assert ended.code() is grpc.StatusCode.INTERNAL
    assert incident["request"] in (ended.details() or "")
    assert isinstance(incident["exc_info"], KeyError)
    assert "secret" not in f"{ended.trailing_metadata()} {ended.details()}"


async def test_error_in_the_middle_of_a_stream_keeps_what_came_before() -> None:
    """A stream that fails has delivered its earlier messages, and ends with the error's status."""

    async def count(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        raise FailedPrecondition("not three")

    async with serving(mapped, unary_stream_count=count) as channel:
        call = channel.unary_stream("/t/unary_stream_count")(b"")
        got = [await call.read(), await call.read()]
        ended = await failure(call.read())
    assert got == [b"1", b"2"]
    assert (ended.code(), ended.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not three")


async def test_all_arities_pass_through() -> None:
    """Frames change nothing in calls that succeed, of whichever arity, also of those that write for themselves."""

    async def unary(request: bytes, _context: object) -> bytes:
        return request

    async def stream(request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield request

    async def gather(requests: AsyncIterator[bytes], _context: object) -> bytes:
        return b"".join([request async for request in requests])

    async def echo(requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(request)

    async with serving(
        logged,
        mapped,
        unary_unary_a=unary,
        unary_stream_b=stream,
        stream_unary_c=gather,
        stream_stream_d=echo,
    ) as channel:
        assert await channel.unary_unary("/t/unary_unary_a")(b"a") == b"a"
        assert [each async for each in channel.unary_stream("/t/unary_stream_b")(b"b")] == [b"b"]
        assert await channel.stream_unary("/t/stream_unary_c")(iter([b"c", b"d"])) == b"cd"
        assert [each async for each in channel.stream_stream("/t/stream_stream_d")(iter([b"e"]))] == [b"e"]


async def test_method_that_nobody_serves_is_unimplemented() -> None:
    """What gRPC itself answers to an unknown method passes through the interceptor."""
    async with serving(mapped) as channel:
        ended = await failure(channel.unary_unary("/t/unary_unary_none")(b""))
    assert ended.code() is grpc.StatusCode.UNIMPLEMENTED


@asynccontextmanager
async def counted(calls: RunningCalls, *, endless: bool = False) -> AsyncIterator[None]:
    """A frame's body that counts the call under one owner."""
    with calls.of("a device", endless=endless):
        yield


@pytest.mark.parametrize("where", ["waiting for a message", "writing to a client that does not read"])
async def test_running_stream_is_ended_with_a_reason(where: str) -> None:
    """A stream that is ended from outside fails at once with that error, wherever it is just then."""
    calls = RunningCalls()

    async def echo(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            while where.startswith("writing"):
                yield b"x" * 1_000_000

    async with serving(mapped, lambda _method, _context: counted(calls), stream_stream_echo=echo) as channel:
        call = channel.stream_stream("/t/stream_stream_echo")()
        await call.write(b"hello")
        assert await call.read() == b"hello"
        calls.end("a device", Unauthenticated("revoked"))
        await wait_until_async(lambda: not calls.owners())
        ended = await failure(read_to_the_end(call))
    assert (ended.code(), ended.details()) == (grpc.StatusCode.UNAUTHENTICATED, "revoked")


async def test_only_endless_calls_end_with_the_server() -> None:
    """`end_endless` leaves a call alone that comes to an end by itself."""
    calls, go_on = RunningCalls(), asyncio.Event()

    async def wait(request: bytes, _context: object) -> bytes:
        await go_on.wait()
        return request

    def frame(method: str, _context: object) -> Any:
        return counted(calls, endless=method.endswith("endless"))

    async with serving(mapped, frame, unary_unary_endless=wait, unary_unary_ends=wait) as channel:
        endless = channel.unary_unary("/t/unary_unary_endless")(b"")
        ends = channel.unary_unary("/t/unary_unary_ends")(b"done")
        await wait_until_async(lambda: calls.count() == 2)
        assert calls.end_endless(Unavailable("stopping")) == 1
        ended = await failure(endless)
        go_on.set()
        assert await ends == b"done"
    assert ended.code() is grpc.StatusCode.UNAVAILABLE


async def test_client_that_leaves_is_not_mistaken_for_an_ending() -> None:
    """A cancellation by the client stays one: nothing is counted on, nothing is logged as an incident."""
    calls = RunningCalls()

    async def wait(_request: bytes, _context: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    with structlog.testing.capture_logs() as logs:
        async with serving(logged, mapped, lambda *_: counted(calls), unary_unary_wait=wait) as channel:
            call = channel.unary_unary("/t/unary_unary_wait")(b"")
            await wait_until_async(calls.owners)
            call.cancel()
            await wait_until_async(lambda: not calls.owners())
            await wait_until_async(lambda: logs)
    assert [(entry["event"], entry["status"]) for entry in logs] == [("call", "CANCELLED")]


async def test_each_call_is_logged_with_its_end() -> None:
    """The log of a call has method, status, reason and duration, and its request's id."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with serving(logged, mapped, unary_unary_fail=raising(NotFound("no"))) as channel:
            await failure(channel.unary_unary("/t/unary_unary_fail")(b""))
            await wait_until_async(lambda: logs)
    (entry,) = logs
    assert (entry["event"], entry["method"]) == ("call", "/t/unary_unary_fail")
    assert (entry["status"], entry["reason"]) == ("NOT_FOUND", "no")
    assert entry["duration_s"] >= 0
    assert entry["request"]
