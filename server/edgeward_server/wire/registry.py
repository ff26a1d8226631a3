"""The messages of `RegistryService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.errors import WireError
from edgeward.protocol.instants import timestamp_from_instant
from edgeward.protocol.wire import flavor_to_message
from edgeward.v1 import registry_pb2, transfer_pb2
from edgeward_coordinator.registry import (
    Evaluation,
    Lineage,
    ModelSummary,
    ModelVersion,
    RegisteredFlavor,
    RegisteredPatch,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

    from edgeward.protocol.digests import Digest


def lineage_to_message(lineage: Lineage) -> registry_pb2.Lineage:
    """To its message."""
    return registry_pb2.Lineage(
        parent_version=lineage.parent_version,
        run_id=lineage.run_id,
        job_id=lineage.job_id,
        code_digest=lineage.code_digest,
        data_digest=lineage.data_digest,
        environment_digest=lineage.environment_digest,
        note=lineage.note,
    )


def lineage_from_message(message: registry_pb2.Lineage) -> Lineage:
    """From its message; the domain checks what it claims."""
    return Lineage(
        parent_version=message.parent_version,
        run_id=message.run_id,
        job_id=message.job_id,
        code_digest=message.code_digest,
        data_digest=message.data_digest,
        environment_digest=message.environment_digest,
        note=message.note,
    )


def registered_flavor_to_message(
    registered: RegisteredFlavor, patches: Iterable[RegisteredPatch] = ()
) -> registry_pb2.RegisteredFlavor:
    """To its message; the evaluation is left out where there is none."""
    evaluation = registered.evaluation
    return registry_pb2.RegisteredFlavor(
        flavor=flavor_to_message(registered.flavor),
        evaluation=_evaluation_to_message(evaluation) if evaluation else None,
        created_at=timestamp_from_instant(registered.created_at),
        approved_at=timestamp_from_instant(registered.approved_at) if registered.approved_at else None,
        approved_by=registered.approved_by,
        signed_at=timestamp_from_instant(registered.signed_at) if registered.signed_at else None,
        patches=[_patch_to_message(patch) for patch in patches],
    )


def version_to_message(
    version: ModelVersion, patches: Mapping[Digest, Iterable[RegisteredPatch]] | None = None
) -> registry_pb2.ModelVersion:
    """To its message, with the patches to its artifacts where they are given."""
    offered = patches or {}
    return registry_pb2.ModelVersion(
        model=version.model,
        version=version.number,
        lineage=lineage_to_message(version.lineage),
        flavors=[
            registered_flavor_to_message(registered, offered.get(registered.flavor.digest, ()))
            for registered in version.flavors
        ],
        created_at=timestamp_from_instant(version.created_at),
        created_by=version.created_by,
    )


def summary_to_message(summary: ModelSummary) -> registry_pb2.ModelSummary:
    """To its message."""
    return registry_pb2.ModelSummary(
        name=summary.name,
        newest_version=summary.newest_version,
        created_at=timestamp_from_instant(summary.created_at),
        flavors=summary.flavors,
    )


async def upload_header(requests: AsyncIterator[registry_pb2.UploadArtifactRequest]) -> transfer_pb2.UploadHeader:
    """The first message of an upload.

    Raises:
        WireError: It is no header.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("body") != "header":
        raise WireError("an upload begins with a header of digest and length")
    return first.header


async def upload_chunks(
    requests: AsyncIterator[registry_pb2.UploadArtifactRequest],
) -> AsyncGenerator[transfer_pb2.Chunk, None]:
    """The messages after the header.

    Raises:
        WireError: Something else than a chunk came.
    """
    async for request in requests:
        if request.WhichOneof("body") != "chunk":
            raise WireError("after its header an upload consists of chunks")
        yield request.chunk


def _patch_to_message(patch: RegisteredPatch) -> registry_pb2.Patch:
    return registry_pb2.Patch(
        base_sha256=patch.base_digest,
        base_version=patch.base_version,
        sha256=patch.digest,
        total_bytes=patch.total_bytes,
    )


def _evaluation_to_message(evaluation: Evaluation) -> registry_pb2.Evaluation:
    return registry_pb2.Evaluation(
        examples=evaluation.examples,
        accuracy=evaluation.accuracy,
        latency_p50_s=evaluation.latency_p50_s,
        runtime=evaluation.runtime,
    )
