"""Large bytes through a gRPC stream: chunks to a partial file, pieces to chunks.

Memory is one chunk: the next is read when the last was taken, which HTTP/2's
flow control passes on to the sender.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from edgeward.v1 import transfer_pb2
from edgeward_coordinator.errors import InvalidArgument, Unavailable
from edgeward_server.running import RunningCalls
from edgeward_server.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from edgeward.durable import PartialFile

CHUNK_BYTES = 256 * 1024


async def receive_chunks(chunks: AsyncIterator[transfer_pb2.Chunk], partial: PartialFile) -> Path:
    """Append what comes and put the file in its place.

    The whole is here when the announced length is: a sender need not close its
    side first, and one that breaks off leaves a file to go on with.

    Returns:
        The verified file.

    Raises:
        WireError: A gap, too many or too few bytes, or another digest than announced.
        OSError: The disk is full; what is here stays and can be resumed.
    """
    while await in_thread(lambda: partial.missing_bytes):
        chunk = await anext(chunks, None)
        if chunk is None:
            break
        await in_thread(partial.append, chunk.offset, chunk.data)
    return await in_thread(partial.commit)


async def send_chunks(
    pieces: Iterator[bytes], *, offset: int, total_bytes: int
) -> AsyncGenerator[transfer_pb2.Chunk, None]:
    """Send the pieces of a whole from `offset` on.

    Args:
        pieces: Of at most 256 KiB each; read in threads.
        offset: Where the first piece starts.
        total_bytes: Of the whole; the first chunk carries it, and is empty where nothing is left to send.

    Raises:
        InvalidArgument: The offset is past the end.
    """
    if offset > total_bytes:
        raise InvalidArgument(f"offset {offset} is past the end of {total_bytes} bytes", hint="start again at offset 0")
    piece = await in_thread(next, pieces, b"")
    yield transfer_pb2.Chunk(offset=offset, data=piece, total_bytes=total_bytes)
    while piece:
        offset += len(piece)
        piece = await in_thread(next, pieces, b"")
        if piece:
            yield transfer_pb2.Chunk(offset=offset, data=piece)


def read_pieces(path: Path, *, offset: int) -> Iterator[bytes]:
    """The bytes of a local file from `offset` on, for `send_chunks`."""
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(CHUNK_BYTES):
            yield piece


def pieces_of(content: bytes, *, offset: int) -> Iterator[bytes]:
    """The same of bytes in memory."""
    for start in range(offset, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


class NewestAttempt:
    """Lets only the newest call work on a thing.

    A device whose network changed comes back while its former call still waits for a
    connection that is dead. Both would write the same file; so the former call is
    ended, and the newer begins when it is out.
    """

    def __init__(self) -> None:
        self._calls = RunningCalls()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def at(self, thing: str) -> AsyncIterator[None]:
        """Be the newest at `thing`, alone while the block runs.

        Raises:
            Unavailable: A newer one came.
        """
        self._calls.end(thing, Unavailable("a newer attempt at the same took over"))
        try:
            with self._calls.of(thing, endless=False):
                async with self._locks[thing]:
                    yield
        finally:
            if thing not in self._calls.owners():
                self._locks.pop(thing, None)
