"""Models and artifacts over the wire: resumable both ways, refused in words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol.digests import digest_of
from edgeward.v1 import registry_pb2, registry_pb2_grpc, transfer_pb2
from edgeward_server.transfer import CHUNK_BYTES
from tests.registrations import golden_bytes
from tests.server.harness import Running, refusal, running
from tests.tiny_models import write_onnx_scale, write_tflite_crashing
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    Stub = registry_pb2_grpc.RegistryServiceAsyncStub

DATA = bytes(range(256)) * 4000  # four chunks
TIMEOUT_S = 30.0


async def stub_of(server: Running) -> Stub:
    """As the admin."""
    stub: Stub = registry_pb2_grpc.RegistryServiceStub(await server.channel(token=server.admin))
    return stub


class Upload:
    """An upload that a test drives message by message."""

    def __init__(self, stub: Stub, data: bytes) -> None:
        self.data = data
        self.digest = digest_of(data)
        self.call = stub.UploadArtifact(timeout=TIMEOUT_S)  # type: ignore[call-arg]

    async def begin(self) -> int:
        """The byte to go on from."""
        header = transfer_pb2.UploadHeader(sha256=self.digest, total_bytes=len(self.data))
        await self.call.write(registry_pb2.UploadArtifactRequest(header=header))
        answer = await self.call.read()
        assert isinstance(answer, registry_pb2.UploadArtifactResponse)
        assert answer.WhichOneof("body") == "ready"
        return answer.ready.offset

    async def send(self, offset: int, *, until: int | None = None) -> None:
        """The bytes from `offset` on, in chunks."""
        end = len(self.data) if until is None else until
        while offset < end:
            piece = self.data[offset : min(offset + CHUNK_BYTES, end)]
            chunk = transfer_pb2.Chunk(offset=offset, data=piece)
            await self.call.write(registry_pb2.UploadArtifactRequest(chunk=chunk))
            offset += len(piece)

    async def receipt(self) -> str:
        """The digest that was acknowledged."""
        answer = await self.call.read()
        assert isinstance(answer, registry_pb2.UploadArtifactResponse)
        assert answer.WhichOneof("body") == "done"
        return answer.done.sha256


async def upload(stub: Stub, data: bytes) -> str:
    """All of it."""
    sending = Upload(stub, data)
    await sending.send(await sending.begin())
    return await sending.receipt()


async def download(stub: Stub, digest: str, *, offset: int = 0) -> bytes:
    """From an offset on."""
    request = registry_pb2.DownloadArtifactRequest(sha256=digest, offset=offset)
    return b"".join([chunk.data async for chunk in stub.DownloadArtifact(request, timeout=TIMEOUT_S)])


async def test_artifact_goes_up_and_comes_down(server: Running) -> None:
    """The same bytes, whole or from the middle; sending it again takes no byte."""
    stub = await stub_of(server)
    digest = await upload(stub, DATA)
    assert await download(stub, digest) == DATA
    assert await download(stub, digest, offset=300_001) == DATA[300_001:]
    again = Upload(stub, DATA)
    assert await again.begin() == len(DATA)
    assert await again.receipt() == digest


async def test_upload_survives_the_coordinator(server: Running) -> None:
    """After a restart the sender is asked for the rest only."""
    sending = Upload(await stub_of(server), DATA)
    await sending.send(await sending.begin(), until=CHUNK_BYTES)
    part = server.config.layout.scratch / "uploads" / f"{sending.digest}.part"
    await wait_until_async(lambda: part.exists() and part.stat().st_size >= CHUNK_BYTES)
    await server.stop()
    async with running(server.config, admin=server.admin) as restarted:
        resumed = Upload(await stub_of(restarted), DATA)
        offset = await resumed.begin()
        assert offset == CHUNK_BYTES
        await resumed.send(offset)
        assert await resumed.receipt() == sending.digest
        assert await download(await stub_of(restarted), sending.digest) == DATA


async def begin_when_free(stub: Stub) -> tuple[Upload, int]:
    """Try again as long as the coordinator says that another connection sends the artifact."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            sending = Upload(stub, DATA)
            try:
                return sending, await sending.begin()
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise


async def test_second_sender_waits_for_the_first(server: Running) -> None:
    """It is told when to come back, and goes on where the first broke off."""
    stub = await stub_of(server)
    first = Upload(stub, DATA)
    await first.send(await first.begin(), until=CHUNK_BYTES)
    second = Upload(stub, DATA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await second.begin()
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    first.call.cancel()
    third, offset = await begin_when_free(stub)
    await third.send(offset)
    assert await third.receipt() == first.digest
    assert await download(stub, first.digest) == DATA


async def failing(sending: Upload) -> None:
    """Read to the error that ends the call."""
    while isinstance(await sending.call.read(), registry_pb2.UploadArtifactResponse):
        pass
    raise AssertionError("the call ended well")


async def test_damaged_upload_is_refused(server: Running) -> None:
    """What does not hash to its name is no artifact."""
    sending = Upload(await stub_of(server), DATA)
    sending.data = DATA[:-1] + b"?"
    await sending.send(await sending.begin())
    code, message = await refusal(failing(sending))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "damaged on the way" in message


async def test_upload_must_begin_with_its_header(server: Running) -> None:
    """A chunk of nothing announced is refused."""
    sending = Upload(await stub_of(server), DATA)
    await sending.send(0, until=10)
    code, message = await refusal(failing(sending))
    assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT, "an upload begins with a header of digest and length")


async def test_push_list_show(server: Running, tmp_path: Path) -> None:
    """A pushed model is a version with its signature; it is listed, and shown with who made it."""
    stub = await stub_of(server)
    artifact = await upload(stub, write_onnx_scale(tmp_path / "m").read_bytes())
    golden = await upload(stub, golden_bytes())
    request = registry_pb2.CreateVersionRequest(
        model="scale", artifact_sha256=artifact, golden_sha256=golden, lineage=registry_pb2.Lineage(note="from the lab")
    )
    created = (await stub.CreateVersion(request, timeout=TIMEOUT_S)).version
    assert (created.model, created.version, created.lineage.note) == ("scale", 1, "from the lab")
    assert created.created_by
    (registered,) = created.flavors
    assert (registered.flavor.name, registered.flavor.sha256) == ("onnx-fp32", artifact)
    assert [list(tensor.shape) for tensor in registered.flavor.signature.inputs] == [[-1, 4]]
    assert not registered.HasField("evaluation")
    (listed,) = (await stub.ListModels(registry_pb2.ListModelsRequest(), timeout=TIMEOUT_S)).models
    assert (listed.name, listed.newest_version, list(listed.flavors)) == ("scale", 1, ["onnx-fp32"])
    for version in (0, 1):
        shown = await stub.GetModel(registry_pb2.GetModelRequest(model="scale", version=version), timeout=TIMEOUT_S)
        assert list(shown.versions) == [created]


async def test_model_that_crashes_its_runtime_costs_a_message(server: Running, tmp_path: Path) -> None:
    """The coordinator answers, and goes on answering."""
    stub = await stub_of(server)
    artifact = await upload(stub, write_tflite_crashing(tmp_path / "m").read_bytes())
    request = registry_pb2.CreateVersionRequest(model="bad", artifact_sha256=artifact)
    code, message = await refusal(stub.CreateVersion(request, timeout=TIMEOUT_S))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "crashed" in message
    assert not (await stub.ListModels(registry_pb2.ListModelsRequest(), timeout=TIMEOUT_S)).models


async def test_what_is_not_there(server: Running) -> None:
    """Each call names what it did not find."""
    stub = await stub_of(server)
    unknown = digest_of(b"unknown")
    calls: list[tuple[Awaitable[object], str]] = [
        (stub.GetModel(registry_pb2.GetModelRequest(model="x")), "no model 'x'"),
        (stub.GetModel(registry_pb2.GetModelRequest(model="x", version=2)), "no version 2 of 'x'"),
        (stub.CreateVersion(registry_pb2.CreateVersionRequest(model="x", artifact_sha256=unknown)), unknown[:12]),
        (download(stub, unknown), unknown[:12]),
    ]
    for call, words in calls:
        code, message = await refusal(call)
        assert code == grpc.StatusCode.NOT_FOUND
        assert words in message


async def test_digest_of_another_form_is_refused(server: Running) -> None:
    """A digest becomes a file's name, so nothing else passes for one."""
    stub = await stub_of(server)
    code, message = await refusal(download(stub, "../../etc/passwd"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "not a SHA-256" in message
