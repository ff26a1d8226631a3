"""Deployments over the wire, down to the device that is online."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol import wire
from edgeward.v1 import agent_pb2, deployment_pb2, deployment_pb2_grpc, registry_pb2
from tests.server.harness import Running, refusal
from tests.server.people import hello
from tests.server.test_registry import stub_of as registry_of
from tests.server.test_registry import upload
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path

    Stub = deployment_pb2_grpc.DeploymentServiceAsyncStub

TIMEOUT_S = 30.0


async def stub_of(server: Running) -> Stub:
    """As the admin."""
    stub: Stub = deployment_pb2_grpc.DeploymentServiceStub(await server.channel(token=server.admin))
    return stub


@pytest.fixture
async def digest(server: Running, tmp_path: Path) -> str:
    """Of the model scale, which is pushed as version 1 and approved."""
    registry = await registry_of(server)
    artifact = await upload(registry, write_onnx_scale(tmp_path / "m").read_bytes())
    request = registry_pb2.CreateVersionRequest(model="scale", artifact_sha256=artifact)
    await registry.CreateVersion(request, timeout=TIMEOUT_S)
    await registry.ApproveVersion(registry_pb2.ApproveVersionRequest(model="scale", version=1), timeout=TIMEOUT_S)
    return artifact


async def test_device_that_is_online_hears_of_a_deployment(server: Running, digest: str) -> None:
    """Setting and removing each reach its open session, in order."""
    member = await server.enroll(group="barn")
    session = (await server.agent(member)).Session(timeout=TIMEOUT_S)  # type: ignore[call-arg]
    await session.write(agent_pb2.SessionUp(hello=wire.hello_to_message(hello())))

    async def desired() -> agent_pb2.DesiredState:
        while True:
            down = await session.read()
            assert isinstance(down, agent_pb2.SessionDown)
            if down.HasField("desired"):
                return down.desired

    before = await desired()
    stub = await stub_of(server)
    request = deployment_pb2.SetDeploymentRequest(group="barn", model="scale")
    deployment = (await stub.SetDeployment(request, timeout=TIMEOUT_S)).deployment
    assert (deployment.group, deployment.model, deployment.version, deployment.devices) == ("barn", "scale", 1, 1)
    during = await desired()
    assert during.generation == deployment.generation > before.generation
    assert [(each.model, each.version, each.flavors[0].sha256) for each in during.models] == [("scale", 1, digest)]
    gone = deployment_pb2.RemoveDeploymentRequest(group="barn", model="scale")
    removed = await stub.RemoveDeployment(gone, timeout=TIMEOUT_S)
    after = await desired()
    assert (after.generation, list(after.models)) == (removed.generation, [])
    session.cancel()


async def test_list_filters(server: Running, digest: str) -> None:
    """By group and by model."""
    stub = await stub_of(server)
    for group in ("barn", "field"):
        await stub.SetDeployment(deployment_pb2.SetDeploymentRequest(group=group, model="scale"), timeout=TIMEOUT_S)
    for request, groups in (
        (deployment_pb2.ListDeploymentsRequest(), ["barn", "field"]),
        (deployment_pb2.ListDeploymentsRequest(group="field"), ["field"]),
        (deployment_pb2.ListDeploymentsRequest(model="other"), []),
    ):
        listed = (await stub.ListDeployments(request, timeout=TIMEOUT_S)).deployments
        assert [each.group for each in listed] == groups


async def test_unknown_model_is_refused(server: Running) -> None:
    """In words, and nothing is deployed."""
    stub = await stub_of(server)
    code, message = await refusal(
        stub.SetDeployment(deployment_pb2.SetDeploymentRequest(group="barn", model="nothing"), timeout=TIMEOUT_S)
    )
    assert (code, message) == (grpc.StatusCode.NOT_FOUND, "no model 'nothing'")
    assert not (await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=TIMEOUT_S)).deployments
