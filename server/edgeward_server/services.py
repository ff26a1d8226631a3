"""All services of `edgeward.v1` on one gRPC server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.v1 import (
    access_pb2,
    access_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    deployment_pb2,
    deployment_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    federation_pb2,
    federation_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    trust_pb2,
    trust_pb2_grpc,
)
from edgeward_server.servicers.access import AccessServicer
from edgeward_server.servicers.agent import AgentServicer
from edgeward_server.servicers.audit import AuditServicer
from edgeward_server.servicers.deployment import DeploymentServicer
from edgeward_server.servicers.enrollment import EnrollmentServicer
from edgeward_server.servicers.federation import FederationServicer
from edgeward_server.servicers.fleet import FleetServicer
from edgeward_server.servicers.job import JobServicer
from edgeward_server.servicers.registry import RegistryServicer
from edgeward_server.servicers.trust import TrustServicer

if TYPE_CHECKING:
    import grpc

    from edgeward_server.compose import Coordinator

MODULES = (
    access_pb2,
    agent_pb2,
    audit_pb2,
    deployment_pb2,
    enrollment_pb2,
    federation_pb2,
    fleet_pb2,
    job_pb2,
    registry_pb2,
    trust_pb2,
)

SERVICES: tuple[str, ...] = tuple(
    service.full_name for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()
)


def add_services(server: grpc.aio.Server, parts: Coordinator, *, device_port: int) -> None:
    """Put a servicer for each service on the server.

    Args:
        server: Not started yet.
        parts: What the servicers call.
        device_port: New devices are told of it.
    """
    access_pb2_grpc.add_AccessServiceServicer_to_server(AccessServicer(access=parts.access, ca=parts.ca), server)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(
        AgentServicer(
            hub=parts.hub,
            fleet=parts.fleet,
            registry=parts.registry,
            trust=parts.trust,
            telemetry=parts.telemetry,
            runs=parts.runs,
            clock=parts.database.clock,
        ),
        server,
    )
    audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(audit=parts.audit), server)
    deployment_pb2_grpc.add_DeploymentServiceServicer_to_server(
        DeploymentServicer(deployments=parts.deployments, rollouts=parts.rollouts, hub=parts.hub), server
    )
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(fleet=parts.fleet, ca=parts.ca, trust=parts.trust, hub=parts.hub, device_port=device_port),
        server,
    )
    federation_pb2_grpc.add_FederationServiceServicer_to_server(FederationServicer(runs=parts.runs), server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(
        FleetServicer(fleet=parts.fleet, telemetry=parts.telemetry, hub=parts.hub, ca=parts.ca), server
    )
    job_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(jobs=parts.jobs), server)
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(
        RegistryServicer(registry=parts.registry, trust=parts.trust), server
    )
    trust_pb2_grpc.add_TrustServiceServicer_to_server(TrustServicer(trust=parts.trust), server)
