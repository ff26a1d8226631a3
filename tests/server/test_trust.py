"""Who signs what may run, over the wire: operators change it, devices fetch it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from edgeward.protocol.targets import target_path
from edgeward.v1 import (
    agent_pb2,
    enrollment_pb2,
    enrollment_pb2_grpc,
    fleet_pb2,
    registry_pb2,
    registry_pb2_grpc,
    trust_pb2,
    trust_pb2_grpc,
)
from edgeward_coordinator.trust import generate_key, sign_document
from tests.server.harness import Running, config_in, refusal, running
from tests.server.people import new_key
from tests.server.test_registry import stub_of as registry_of
from tests.server.test_registry import upload
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.people import Member

    Stub = trust_pb2_grpc.TrustServiceAsyncStub

TIMEOUT_S = 30.0


async def stub_of(server: Running, *, token: str = "") -> Stub:
    """As the admin, or whose token it is."""
    stub: Stub = trust_pb2_grpc.TrustServiceStub(await server.channel(token=token or server.admin))
    return stub


async def push(server: Running, folder: Path, model: str) -> None:
    """The next version of a model."""
    registry = await registry_of(server)
    artifact = await upload(registry, write_onnx_scale(folder / "m").read_bytes())
    request = registry_pb2.CreateVersionRequest(model=model, artifact_sha256=artifact)
    await registry.CreateVersion(request, timeout=TIMEOUT_S)


async def fetch(server: Running, member: Member, name: str) -> bytes:
    """A file of metadata, as a device asks for it."""
    agent = await server.agent(member)
    chunks = [chunk async for chunk in agent.Fetch(agent_pb2.FetchRequest(metadata=name), timeout=TIMEOUT_S)]
    content = b"".join(chunk.data for chunk in chunks)
    assert chunks[0].total_bytes == len(content)
    return content


async def everything(server: Running, member: Member) -> dict[str, bytes]:
    """All files that a device could be told of."""
    found = {"timestamp.json": await fetch(server, member, "timestamp.json")}
    for role in ("root", "snapshot", "targets", "vision"):
        for version in range(1, 9):
            name = f"{version}.{role}.json"
            with suppress(grpc.aio.AioRpcError):
                found[name] = await fetch(server, member, name)
    return found


class Fetched(FetcherInterface):
    """Files that were fetched before."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self._files:
            raise DownloadHTTPError(name, 404)
        yield self._files[name]


def updater(files: dict[str, bytes], root: bytes, folder: Path) -> Updater:
    """A refreshed client of a device."""
    made = Updater(str(folder), "x://x/", fetcher=Fetched(files), bootstrap=root)
    made.refresh()
    return made


async def enrolled_root(server: Running) -> bytes:
    """What a device is given to trust."""
    fleet = await server.fleet()
    request = fleet_pb2.CreateEnrollmentTokenRequest(group="lab", uses=1, expires_in_s=600)
    token = await fleet.CreateEnrollmentToken(request, timeout=TIMEOUT_S)
    stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(await server.channel())
    enrollment = enrollment_pb2.EnrollRequest(token=token.secret, csr_pem=new_key().csr_pem, device_name="pi")
    answer: enrollment_pb2.EnrollResponse = await stub.Enroll(enrollment, timeout=TIMEOUT_S)
    return answer.trusted_root


async def test_a_device_verifies_what_was_approved(server: Running, tmp_path: Path) -> None:
    """From the root that it got when it enrolled to the digest of the artifact."""
    root, member = await enrolled_root(server), await server.enroll()
    await push(server, tmp_path, "scale")
    registry = await registry_of(server)
    request = registry_pb2.ApproveVersionRequest(model="scale", version=1, reason="fine")
    approved = await registry.ApproveVersion(request, timeout=TIMEOUT_S)
    (flavor,) = approved.version.flavors
    assert (list(approved.waiting_for_roles), flavor.approved_by) == ([], "first-admin")
    assert flavor.HasField("signed_at")
    client = updater(await everything(server, member), root, tmp_path / "one")
    info = client.get_targetinfo(target_path("scale", 1, "onnx-fp32"))
    assert info is not None
    assert info.hashes["sha256"] == flavor.flavor.sha256
    shown = await registry.GetModel(registry_pb2.GetModelRequest(model="scale", version=1), timeout=TIMEOUT_S)
    assert shown.versions[0] == approved.version
    withdrawal = registry_pb2.WithdrawVersionRequest(model="scale", version=1)
    withdrawn = await registry.WithdrawVersion(withdrawal, timeout=TIMEOUT_S)
    assert not withdrawn.version.flavors[0].HasField("signed_at")
    client = updater(await everything(server, member), root, tmp_path / "two")
    assert client.get_targetinfo(target_path("scale", 1, "onnx-fp32")) is None


@pytest.mark.parametrize("name", ["9.root.json", "root.json", "../ca/ca-key.pem", "x" * 5000, "1.targets.json/.."])
async def test_metadata_that_is_not_there(server: Running, name: str) -> None:
    """Is not found, whatever was asked for."""
    member = await server.enroll()
    assert (await refusal(fetch(server, member, name)))[0] == grpc.StatusCode.NOT_FOUND


async def test_metadata_from_an_offset(server: Running) -> None:
    """As an artifact; past its end is an error of the caller's."""
    agent = await server.agent(await server.enroll())

    async def read(offset: int) -> bytes:
        request = agent_pb2.FetchRequest(metadata="1.root.json", offset=offset)
        return b"".join([chunk.data async for chunk in agent.Fetch(request, timeout=TIMEOUT_S)])

    whole = await read(0)
    assert await read(100) == whole[100:]
    assert await read(len(whole)) == b""
    assert (await refusal(read(len(whole) + 1)))[0] == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_project_that_signs_elsewhere(server: Running, tmp_path: Path) -> None:
    """Put, export, sign, import, approve, sign again; the roles say at each time what waits."""
    trust = await stub_of(server)
    private, public = generate_key()
    put = trust_pb2.PutProjectRequest(name="vision", prefix="vision-", public_pem=[public])
    assert (await trust.PutProject(put, timeout=TIMEOUT_S)).waiting_for_roles == ["vision"]

    async def sign() -> trust_pb2.ImportSignedResponse:
        exported = await trust.ExportPending(trust_pb2.ExportPendingRequest(), timeout=TIMEOUT_S)
        request = trust_pb2.ImportSignedRequest(document=sign_document(exported.document, private))
        return await trust.ImportSigned(request, timeout=TIMEOUT_S)

    assert (await sign()).published_roles == ["vision"]
    await push(server, tmp_path, "vision-east")
    registry = await registry_of(server)
    request = registry_pb2.ApproveVersionRequest(model="vision-east", version=1)
    assert (await registry.ApproveVersion(request, timeout=TIMEOUT_S)).waiting_for_roles == ["vision"]
    status = await trust.GetTrust(trust_pb2.GetTrustRequest(), timeout=TIMEOUT_S)
    roles = {role.name: role for role in status.roles}
    assert list(roles) == ["root", "targets", "snapshot", "timestamp", "vision"]
    assert (roles["vision"].prefix, roles["vision"].pending_signatures, roles["vision"].targets) == ("vision-", 1, 0)
    held = {key.id: key.held for key in status.keys}
    assert [held[key_id] for key_id in roles["vision"].key_ids] == [False]
    assert all(held[role.key_ids[0]] for role in status.roles if role.name != "vision")
    root, member = await enrolled_root(server), await server.enroll()
    assert list((await sign()).waiting_for_roles) == []
    client = updater(await everything(server, member), root, tmp_path / "device")
    assert client.get_targetinfo(target_path("vision-east", 1, "onnx-fp32")) is not None
    removed = await trust.RemoveProject(trust_pb2.RemoveProjectRequest(name="vision"), timeout=TIMEOUT_S)
    assert list(removed.waiting_for_roles) == []


async def test_a_key_is_replaced(server: Running) -> None:
    """A change without keys makes one."""
    trust = await stub_of(server)
    member = await server.enroll()
    answer = await trust.ChangeRole(trust_pb2.ChangeRoleRequest(role="timestamp"), timeout=TIMEOUT_S)
    assert list(answer.waiting_for_roles) == []
    assert await fetch(server, member, "2.root.json")


async def test_each_deed_needs_its_role(server: Running) -> None:
    """Viewers look, approvers approve and bring signatures, admins change who signs."""
    tokens = {role: (await server.token(role, name=role)).secret for role in ("viewer", "operator", "approver")}
    for role, said in (("operator", "needs the role approver"), ("approver", "no version 1 of 'x'")):
        approve = (await registry_as(server, tokens[role])).ApproveVersion
        request = registry_pb2.ApproveVersionRequest(model="x", version=1)
        _, message = await refusal(approve(request, timeout=TIMEOUT_S))
        assert said in message
    approver = await stub_of(server, token=tokens["approver"])
    for call in (
        approver.ChangeRole(trust_pb2.ChangeRoleRequest(role="root"), timeout=TIMEOUT_S),
        approver.PutProject(trust_pb2.PutProjectRequest(name="a", prefix="a"), timeout=TIMEOUT_S),
        approver.RemoveProject(trust_pb2.RemoveProjectRequest(name="a"), timeout=TIMEOUT_S),
    ):
        assert (await refusal(call))[0] == grpc.StatusCode.PERMISSION_DENIED
    garbage = trust_pb2.ImportSignedRequest(document=b"garbage")
    assert (await refusal(approver.ImportSigned(garbage, timeout=TIMEOUT_S)))[0] == grpc.StatusCode.INVALID_ARGUMENT
    viewer = await stub_of(server, token=tokens["viewer"])
    assert (await viewer.GetTrust(trust_pb2.GetTrustRequest(), timeout=TIMEOUT_S)).roles
    assert (await viewer.ExportPending(trust_pb2.ExportPendingRequest(), timeout=TIMEOUT_S)).document == b""
    assert (await refusal(viewer.ImportSigned(garbage, timeout=TIMEOUT_S)))[0] == grpc.StatusCode.PERMISSION_DENIED


async def registry_as(server: Running, token: str) -> Any:
    """The registry, for whose token it is."""
    return registry_pb2_grpc.RegistryServiceStub(await server.channel(token=token))


async def test_another_one_must_approve_where_the_server_says_so(tmp_path: Path) -> None:
    """`--approval other`: who pushed a version is told to ask somebody else."""
    async with running(config_in(tmp_path / "data", approval="other")) as server:
        await push(server, tmp_path, "scale")
        registry = await registry_of(server)
        request = registry_pb2.ApproveVersionRequest(model="scale", version=1)
        code, message = await refusal(registry.ApproveVersion(request, timeout=TIMEOUT_S))
        assert (code, "somebody else must approve" in message) == (grpc.StatusCode.PERMISSION_DENIED, True)
        eve = (await server.token("approver", name="eve")).secret
        approved = await (await registry_as(server, eve)).ApproveVersion(request, timeout=TIMEOUT_S)
        assert approved.version.flavors[0].approved_by == "eve"


async def test_the_operator_hears_of_new_keys_once(tmp_path: Path) -> None:
    """At the first start; the second makes none and serves the same root."""
    config = config_in(tmp_path / "data")
    async with running(config) as server:
        names = [path.name.split("-")[0] for path in server.announced.keys]
        assert names == ["root", "targets", "snapshot", "timestamp"]
        assert all(path.exists() for path in server.announced.keys)
        admin, root = server.admin, await enrolled_root(server)
    async with running(config, admin=admin) as server:
        assert server.announced.keys == []
        assert await enrolled_root(server) == root
