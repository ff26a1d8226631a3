"""Models and artifacts, for operators."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.model import parse_format
from edgeward.v1 import registry_pb2, registry_pb2_grpc, transfer_pb2
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.transfer import receive_chunks, send_chunks
from edgeward_server.wire.registry import (
    lineage_from_message,
    summary_to_message,
    upload_chunks,
    upload_header,
    version_to_message,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    import grpc

    from edgeward_coordinator.registry import Registry
    from edgeward_coordinator.trust import Trust

    Context = grpc.aio.ServicerContext[Any, Any]


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Uploads, versions, approvals, downloads."""

    def __init__(self, *, registry: Registry, trust: Trust) -> None:
        self._registry = registry
        self._trust = trust

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[registry_pb2.UploadArtifactRequest], context: Context
    ) -> AsyncIterator[registry_pb2.UploadArtifactResponse]:
        """Receive an artifact from the byte on that is not here yet."""
        header = await upload_header(request_iterator)
        digest, total_bytes = parse_digest(header.sha256), header.total_bytes
        # Held until no thread of this call works on the file any more.
        with self._registry.claim_upload(digest):
            partial = await in_thread(self._registry.begin_upload, digest, total_bytes)
            offset = total_bytes if partial is None else await in_thread(lambda: partial.offset)
            yield registry_pb2.UploadArtifactResponse(ready=transfer_pb2.UploadReady(offset=offset))
            if partial is not None:
                async with aclosing(upload_chunks(request_iterator)) as chunks:
                    await receive_chunks(chunks, partial)
                await in_thread(self._registry.finish_upload, partial, digest)
        yield registry_pb2.UploadArtifactResponse(done=transfer_pb2.UploadDone(sha256=digest))

    async def CreateVersion(
        self, request: registry_pb2.CreateVersionRequest, context: Context
    ) -> registry_pb2.CreateVersionResponse:
        """Examine an uploaded model and make it a version."""
        version = await in_thread(
            self._registry.create_version,
            model=request.model,
            artifact=parse_digest(request.artifact_sha256),
            golden=parse_digest(request.golden_sha256) if request.golden_sha256 else None,
            format=parse_format(request.format) if request.format else None,
            lineage=lineage_from_message(request.lineage),
            actor=current_caller().require_principal().name,
        )
        return registry_pb2.CreateVersionResponse(version=version_to_message(version))

    async def ListModels(
        self, request: registry_pb2.ListModelsRequest, context: Context
    ) -> registry_pb2.ListModelsResponse:
        """All models by name."""
        summaries = await in_thread(self._registry.list_models)
        return registry_pb2.ListModelsResponse(models=[summary_to_message(summary) for summary in summaries])

    async def GetModel(self, request: registry_pb2.GetModelRequest, context: Context) -> registry_pb2.GetModelResponse:
        """One version with the patches to it, or all of a model, newest first."""
        if request.version:
            version = await in_thread(self._registry.get_version, request.model, request.version)
            patches = await in_thread(self._registry.patches_to, version)
            return registry_pb2.GetModelResponse(versions=[version_to_message(version, patches)])
        versions = await in_thread(self._registry.list_versions, request.model)
        return registry_pb2.GetModelResponse(versions=[version_to_message(version) for version in versions])

    async def ApproveVersion(
        self, request: registry_pb2.ApproveVersionRequest, context: Context
    ) -> registry_pb2.ApproveVersionResponse:
        """What the version has now may be deployed, once it is signed."""
        actor = current_caller().require_principal().name
        approval = await in_thread(
            self._trust.approve, request.model, request.version, actor=actor, reason=request.reason
        )
        patches = await in_thread(self._registry.patches_to, approval.version)
        return registry_pb2.ApproveVersionResponse(
            version=version_to_message(approval.version, patches), waiting_for_roles=approval.waiting_for_roles
        )

    async def WithdrawVersion(
        self, request: registry_pb2.WithdrawVersionRequest, context: Context
    ) -> registry_pb2.WithdrawVersionResponse:
        """It may be deployed no more."""
        actor = current_caller().require_principal().name
        approval = await in_thread(
            self._trust.withdraw, request.model, request.version, actor=actor, reason=request.reason
        )
        return registry_pb2.WithdrawVersionResponse(
            version=version_to_message(approval.version), waiting_for_roles=approval.waiting_for_roles
        )

    async def DownloadArtifact(
        self, request: registry_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[transfer_pb2.Chunk]:
        """The bytes of an artifact from an offset."""
        digest = parse_digest(request.sha256)
        total_bytes = await in_thread(self._registry.artifact_bytes, digest)
        pieces = await in_thread(self._registry.open_artifact, digest, request.offset)
        async with aclosing(send_chunks(pieces, offset=request.offset, total_bytes=total_bytes)) as chunks:
            async for chunk in chunks:
                yield chunk
