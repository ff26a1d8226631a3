"""Large bytes up and down: in chunks, from where the last attempt stopped, verified by digest."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, BinaryIO, Final

from edgeward.durable import PartialFile, fsync_folder
from edgeward.protocol.digests import Digest, digest_of_file
from edgeward.protocol.errors import WireError
from edgeward.v1 import registry_pb2, transfer_pb2
from edgeward_server.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward_server.client.connection import Client

_CHUNK_BYTES: Final = 256 << 10


def upload(
    client: Client, source: BinaryIO, *, digest: Digest, total_bytes: int, on_progress: Callable[[int], None]
) -> None:
    """Bring bytes to the coordinator, from the byte on that it asks for.

    Args:
        client: Where to.
        source: Seekable.
        digest: Of the whole.
        total_bytes: Of the whole.
        on_progress: Called with how many bytes are there, from another thread.

    Raises:
        ClientError: The coordinator ended the stream without a receipt.
    """
    start: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    header = transfer_pb2.UploadHeader(sha256=digest, total_bytes=total_bytes)
    answers = client.registry.UploadArtifact(_upload_requests(header, source, start, on_progress))
    try:
        for answer in answers:
            if answer.HasField("done"):
                on_progress(total_bytes)
                return
            start.put(answer.ready.offset)
    finally:
        # gRPC's thread may still wait in the generator for where to start.
        start.put(None)
    raise ClientError("the coordinator ended the upload without a receipt", hint="run the command again; it resumes")


def _upload_requests(
    header: transfer_pb2.UploadHeader,
    source: BinaryIO,
    start: queue.SimpleQueue[int | None],
    on_progress: Callable[[int], None],
) -> Iterator[registry_pb2.UploadArtifactRequest]:
    yield registry_pb2.UploadArtifactRequest(header=header)
    offset = start.get()
    if offset is None:
        return
    source.seek(offset)
    while data := source.read(_CHUNK_BYTES):
        on_progress(offset)
        yield registry_pb2.UploadArtifactRequest(chunk=transfer_pb2.Chunk(offset=offset, data=data))
        offset += len(data)


def download(
    client: Client, destination: Path, *, digest: Digest, total_bytes: int, on_progress: Callable[[int], None]
) -> None:
    """Bring an artifact here; what an interrupted attempt left is kept beside it and resumed.

    Raises:
        ClientError: `destination` exists and is something else, or what arrived is not what was announced.
    """
    if destination.exists():
        if not destination.is_file():
            raise ClientError(f"{destination} is no ordinary file", hint="choose the name of a file")
        if digest_of_file(destination) != digest:
            raise ClientError(f"{destination} exists and is something else", hint="remove it or choose another name")
        on_progress(total_bytes)
        return
    # The name holds the digest, so what another version left is never resumed.
    hidden = destination.with_name(f".{destination.name}.{digest[:16]}")
    partial = PartialFile(hidden, digest=digest, total_bytes=total_bytes)
    on_progress(partial.offset)
    request = registry_pb2.DownloadArtifactRequest(sha256=digest, offset=partial.offset)
    try:
        for chunk in client.registry.DownloadArtifact(request):
            partial.append(chunk.offset, chunk.data)
            on_progress(partial.offset)
        partial.commit().replace(destination)
    except WireError as error:
        raise ClientError(f"the download failed: {error}", hint="run the command again; it resumes") from error
    fsync_folder(destination.parent)
