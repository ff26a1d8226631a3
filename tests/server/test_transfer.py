"""Chunks to a file, pieces to chunks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.durable import PartialFile
from edgeward.protocol import WireError
from edgeward.protocol.digests import digest_of
from edgeward.v1 import transfer_pb2
from edgeward_coordinator.errors import InvalidArgument, Unavailable
from edgeward_server.transfer import CHUNK_BYTES, NewestAttempt, read_pieces, receive_chunks, send_chunks
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

DATA = bytes(range(256)) * 4096


async def stream(chunks: Iterable[transfer_pb2.Chunk]) -> AsyncIterator[transfer_pb2.Chunk]:
    """Chunks as they come from a call."""
    for chunk in chunks:
        yield chunk


def chunks_of(data: bytes, *, size: int, start: int = 0) -> list[transfer_pb2.Chunk]:
    """What a sender sends."""
    return [
        transfer_pb2.Chunk(offset=offset, data=data[offset : offset + size]) for offset in range(start, len(data), size)
    ]


def partial_in(folder: Path, data: bytes = DATA) -> PartialFile:
    """The reception of `data`."""
    return PartialFile(folder / "file", digest=digest_of(data), total_bytes=len(data))


@given(size=st.integers(1, 700), cut=st.integers(0, 2000))
async def test_broken_reception_goes_on_where_it_stopped(
    tmp_path_factory: pytest.TempPathFactory, size: int, cut: int
) -> None:
    """Whatever the size of the chunks and wherever the first attempt broke off, the second completes the file."""
    data, folder = DATA[:1500], tmp_path_factory.mktemp("reception")
    first = chunks_of(data[:cut], size=size)
    if cut < len(data):
        with pytest.raises(WireError, match="arrived"):
            await receive_chunks(stream(first), partial_in(folder, data))
    partial = partial_in(folder, data)
    path = await receive_chunks(stream(chunks_of(data, size=size, start=partial.offset)), partial)
    assert path.read_bytes() == data


async def test_whole_is_complete_before_the_sender_closes(tmp_path: Path) -> None:
    """A sender that waits for the confirmation before it closes its side gets it."""

    async def endless() -> AsyncIterator[transfer_pb2.Chunk]:
        for chunk in chunks_of(DATA, size=CHUNK_BYTES):
            yield chunk
        raise AssertionError("read on although the whole is here")

    path = await receive_chunks(endless(), partial_in(tmp_path))
    assert path.read_bytes() == DATA


async def test_empty_whole_needs_no_chunk(tmp_path: Path) -> None:
    """A file of no bytes is complete from the start."""
    path = await receive_chunks(stream([]), partial_in(tmp_path, b""))
    assert path.read_bytes() == b""


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES, len(DATA) - 1, len(DATA)])
async def test_sent_chunks_are_the_rest_of_the_whole(tmp_path: Path, offset: int) -> None:
    """From any offset the chunks follow each other to the end; only the first says how long the whole is."""
    (tmp_path / "file").write_bytes(DATA)
    pieces = read_pieces(tmp_path / "file", offset=offset)
    chunks = [chunk async for chunk in send_chunks(pieces, offset=offset, total_bytes=len(DATA))]
    position = offset
    for chunk in chunks:
        assert chunk.offset == position
        position += len(chunk.data)
    assert b"".join(chunk.data for chunk in chunks) == DATA[offset:]
    assert [chunk.total_bytes for chunk in chunks] == [len(DATA)] + [0] * (len(chunks) - 1)


async def test_offset_past_the_end_is_refused(tmp_path: Path) -> None:
    """Nobody can go on after the end."""
    (tmp_path / "file").write_bytes(DATA)
    pieces = read_pieces(tmp_path / "file", offset=0)
    with pytest.raises(InvalidArgument, match="past the end"):
        await anext(send_chunks(pieces, offset=len(DATA) + 1, total_bytes=len(DATA)))


async def test_newest_attempt_ends_the_former_and_begins_when_it_is_out() -> None:
    """Of three attempts at one thing only the last goes on, and no two work at the same time."""
    attempts, log, go_on = NewestAttempt(), list[str](), asyncio.Event()

    async def attempt(name: str, thing: str = "file") -> None:
        async with attempts.at(thing):
            log.append(f"{name} in")
            try:
                await go_on.wait()
            finally:
                await asyncio.sleep(0)  # a thread that must be waited for
                log.append(f"{name} out")

    first = asyncio.ensure_future(attempt("first"))
    other = asyncio.ensure_future(attempt("other", thing="another file"))
    await wait_until_async(lambda: len(log) == 2)
    second, third = (asyncio.ensure_future(attempt(name)) for name in ("second", "third"))
    await wait_until_async(lambda: "third in" in log)
    go_on.set()
    await asyncio.gather(third, other)
    for former in (first, second):
        with pytest.raises(Unavailable, match="newer attempt"):
            await former
    assert log.index("first out") < log.index("third in")
    assert "second in" not in log
