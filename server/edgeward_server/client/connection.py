"""One connection to a coordinator: a verified channel, the operator's credentials, a stub for each service.

The stubs hand out the wire's own messages: an operator's client shows what the
API says and has no domain of its own to keep them from. Every call has a
deadline; long streams end by the channel's keepalive when the server is gone.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from edgeward.v1 import (
    access_pb2_grpc,
    audit_pb2_grpc,
    deployment_pb2_grpc,
    federation_pb2_grpc,
    fleet_pb2_grpc,
    job_pb2_grpc,
    registry_pb2_grpc,
    trust_pb2_grpc,
)
from edgeward_server.client.call_terms import CallTerms
from edgeward_server.client.errors import ClientError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward_server.client.contexts import FleetContext

# A version is opened and run in a process of its own before it exists.
CHECK_DEADLINE_S: Final = 600.0

_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class Client:
    """The services of a coordinator, one stub each."""

    def __init__(self, channel: grpc.Channel, *, address: str) -> None:
        self.address = address
        self.access = access_pb2_grpc.AccessServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)
        self.deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
        self.federation = federation_pb2_grpc.FederationServiceStub(channel)
        self.fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        self.jobs = job_pb2_grpc.JobServiceStub(channel)
        self.registry = registry_pb2_grpc.RegistryServiceStub(channel)
        self.trust = trust_pb2_grpc.TrustServiceStub(channel)


@contextmanager
def connected(context: FleetContext) -> Iterator[Client]:
    """A client for as long as the block runs.

    Raises:
        ClientError: What gRPC raised inside the block, in words.
    """
    token = "" if context.uses_certificate else context.token
    channel = grpc.intercept_channel(_open_channel(context), CallTerms(token))
    try:
        yield Client(channel, address=context.address)
    except grpc.RpcError as error:
        raise explain(error, context.address) from error
    finally:
        channel.close()


def _open_channel(context: FleetContext) -> grpc.Channel:
    root = context.ca_pem.encode()
    if context.uses_certificate:
        key, certificate = _read(context.key_file), _read(context.certificate_file)
        credentials = grpc.ssl_channel_credentials(root, private_key=key, certificate_chain=certificate)
    else:
        credentials = grpc.ssl_channel_credentials(root)
    return grpc.secure_channel(context.address, credentials, options=_OPTIONS)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ClientError(
            f"{name} can't be read ({error.strerror})", hint="log in again with files that can"
        ) from error
