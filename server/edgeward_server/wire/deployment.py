"""The messages of `DeploymentService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import deployment_pb2

if TYPE_CHECKING:
    from edgeward_coordinator.deployment import Deployment


def deployment_to_message(deployment: Deployment) -> deployment_pb2.Deployment:
    """To its message."""
    return deployment_pb2.Deployment(
        group=deployment.group,
        model=deployment.model,
        version=deployment.version,
        generation=deployment.generation,
        created_at=timestamp_from_instant(deployment.created_at),
        created_by=deployment.created_by,
        devices=deployment.devices,
        serving=deployment.serving,
        failed=deployment.failed,
    )
