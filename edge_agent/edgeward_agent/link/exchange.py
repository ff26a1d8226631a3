"""Federated messages over the link: pulled from a run, replies pushed to it, both resumable at any byte."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from edgeward.v1 import agent_pb2, transfer_pb2
from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.learning.exchange_link import ExchangeInterrupted, ExchangeRefused
from edgeward_agent.link.errors import translated_errors
from edgeward_agent.link.streams import write_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    import grpc

    from edgeward.protocol.digests import Digest
    from edgeward_agent.link.link import Link

    ExchangeCall = grpc.aio.StreamStreamCall[agent_pb2.ExchangeUp, agent_pb2.ExchangeDown]

CHUNK_BYTES = 256 << 10


class GrpcExchange:
    """`ExchangeLink` over the link's connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stall_s = link.settings.stall_timeout.total_seconds()

    async def pull(self, run_id: str, message_id: str, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a message from `offset` on.

        Raises:
            ExchangeRefused: The run, or the message, is not for this device, or is over.
            ExchangeInterrupted: The bytes stopped coming.
        """
        with _exchange_errors():
            async with aclosing(self._pieces(run_id, message_id, offset)) as pieces:
                async for piece in pieces:
                    yield piece

    async def push(self, run_id: str, message_id: str, path: Path, digest: Digest, total_bytes: int) -> None:
        """Send the reply in `path` from wherever the coordinator has it; returns once it is durable there.

        Raises:
            ExchangeRefused: The run, or the message, is over.
            ExchangeInterrupted: The connection broke; the next attempt goes on from where this one stopped.
        """
        header = transfer_pb2.UploadHeader(sha256=digest, total_bytes=total_bytes)
        push = agent_pb2.PushReply(run_id=run_id, message_id=message_id, header=header)
        with _exchange_errors():
            call = self._link.stub().Exchange()  # type: ignore[call-arg]
            try:
                await self._write(call, agent_pb2.ExchangeUp(push=push))
                ready = await self._read(call, "ready")
                await self._upload(call, path, offset=ready.ready.offset, total_bytes=total_bytes)
                done = await self._read(call, "done")
                if done.done.sha256 != digest:
                    raise Interrupted(f"the coordinator confirmed {done.done.sha256[:12]!r} for reply {digest[:12]}")
            finally:
                call.cancel()

    async def _pieces(self, run_id: str, message_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        call = self._link.stub().Exchange()  # type: ignore[call-arg]
        try:
            pull = agent_pb2.PullMessage(run_id=run_id, message_id=message_id, offset=offset)
            await self._write(call, agent_pb2.ExchangeUp(pull=pull))
            with translated_errors():
                await call.done_writing()
            position = offset
            pace = self._link.pace()
            clock = asyncio.get_running_loop().time
            while True:
                asked_at = clock()
                down = await self._read_any(call)
                if down is None or not down.chunk.data:
                    return
                chunk = down.chunk
                pace.note(len(chunk.data), waited_s=clock() - asked_at)
                if chunk.offset != position:
                    raise Interrupted(f"the coordinator sent byte {chunk.offset} where byte {position} follows")
                position += len(chunk.data)
                self._link.traffic.received_bytes += len(chunk.data)
                yield chunk.data
        finally:
            call.cancel()

    async def _upload(self, call: ExchangeCall, path: Path, *, offset: int, total_bytes: int) -> None:
        while offset < total_bytes:
            data = await asyncio.to_thread(_read_piece, path, offset)
            if not data:
                raise Interrupted(f"the reply ends at byte {offset} of {total_bytes}")
            chunk = transfer_pb2.Chunk(offset=offset, data=data, total_bytes=total_bytes)
            await self._write(call, agent_pb2.ExchangeUp(chunk=chunk))
            self._link.traffic.sent_bytes += len(data)
            offset += len(data)
        with translated_errors():
            await call.done_writing()

    async def _write(self, call: ExchangeCall, up: agent_pb2.ExchangeUp) -> None:
        with translated_errors():
            async with asyncio.timeout(self._stall_s):
                await write_to(call, up)

    async def _read(self, call: ExchangeCall, expected: str) -> agent_pb2.ExchangeDown:
        down = await self._read_any(call)
        if down is None or down.WhichOneof("body") != expected:
            raise Interrupted(f"the coordinator ended the exchange before {expected!r}")
        return down

    async def _read_any(self, call: ExchangeCall) -> agent_pb2.ExchangeDown | None:
        with translated_errors():
            async with asyncio.timeout(self._stall_s):
                down = await call.read()
        return down if isinstance(down, agent_pb2.ExchangeDown) else None


@contextmanager
def _exchange_errors() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise ExchangeRefused(error.message, hint=error.hint) from error
    except Interrupted as error:
        raise ExchangeInterrupted(error.message, hint=error.hint) from error


def _read_piece(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)
