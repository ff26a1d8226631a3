"""Who may call what, over real listeners."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from edgeward.v1 import access_pb2, access_pb2_grpc, agent_pb2, agent_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from edgeward_coordinator.access import Access, Role
from edgeward_coordinator.errors import PermissionDenied
from edgeward_server.access import AccessControl
from edgeward_server.errors import mapped
from edgeward_server.requirements import ANYONE, REQUIREMENTS
from edgeward_server.services import MODULES
from tests.server.harness import Running, config_in, refusal, running
from tests.server.people import Member, enroll_in, new_key
from tests.server.plain_server import serving
from tests.server.streams import EOF, open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward_coordinator.fleet import Fleet
    from edgeward_coordinator.storage import Database
    from edgeward_server.running import RunningCalls
    from tests.conftest import SetClock

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def test_every_method_has_its_line() -> None:
    """The table holds exactly the methods that the descriptors declare."""
    files = [module.DESCRIPTOR for module in (*MODULES, health_pb2, reflection_pb2)]
    declared = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert set(REQUIREMENTS) == declared


def test_whoever_may_change_something_is_no_viewer() -> None:
    """Viewers have only what looks; the words come from the methods' own names."""
    looks = ("List", "Get", "Watch", "WhoAmI", "Verify", "Download", "Export")
    for method, requirement in REQUIREMENTS.items():
        if requirement.needs is Role.VIEWER:
            assert method.rpartition("/")[2].startswith(looks), method


async def test_nothing_but_the_public_methods_answers_a_stranger(server: Running) -> None:
    """Without a credential every method is refused but enrollment, health and reflection."""
    channel: Any = await server.channel()
    open_methods = []
    for method in REQUIREMENTS:
        call = channel.stream_stream(method)(iter([b""]), timeout=20)
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() is UNAUTHENTICATED and "needs" in (error.details() or ""):
                continue
        open_methods.append(method)
        call.cancel()
    assert sorted(open_methods) == sorted(
        method for method, requirement in REQUIREMENTS.items() if requirement.needs is ANYONE
    )


async def test_viewer_can_not_revoke_a_device(server: Running) -> None:
    """Too low a role is told in words: the deed, the role it needs, who has which."""
    member = await server.enroll()
    viewer = (await server.token("viewer", name="ci")).secret
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(await server.channel(token=viewer))
    assert [device.id for device in (await fleet.ListDevices(fleet_pb2.ListDevicesRequest())).devices] == [member.id]
    assert await refusal(fleet.RevokeDevice(fleet_pb2.RevokeDeviceRequest(device=member.id))) == (
        DENIED,
        "revoking a device needs the role operator; the token 'ci' has viewer",
    )


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("ewt_" + "x" * 43, "does not know this token"),
        ("garbage", "not an operator's token"),
    ],
    ids=["unknown", "garbage"],
)
async def test_wrong_token_is_refused(server: Running, token: str, said: str) -> None:
    """A token that nobody made opens nothing."""
    metadata = (("authorization", f"Bearer {token}"),)
    access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(await server.channel())
    code, details = await refusal(access.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata))
    assert code is UNAUTHENTICATED
    assert said in details


async def test_other_authorization_is_named(server: Running) -> None:
    """An authorization of another scheme is told which one is meant."""
    access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(await server.channel())
    answer = access.WhoAmI(access_pb2.WhoAmIRequest(), metadata=(("authorization", "Basic YTpi"),))
    assert await refusal(answer) == (UNAUTHENTICATED, "the authorization is no bearer token")


async def test_revoked_and_expired_tokens_are_refused_at_the_next_call(server: Running) -> None:
    """A token stops working on the connection that it worked on."""
    made = await server.token("viewer")
    access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(
        await server.channel(token=made.secret)
    )
    assert (await access.WhoAmI(access_pb2.WhoAmIRequest())).role == "viewer"
    admin = await server.access()
    await admin.RevokeToken(access_pb2.RevokeTokenRequest(id=made.token.id))
    code, details = await refusal(access.WhoAmI(access_pb2.WhoAmIRequest()))
    assert code is UNAUTHENTICATED
    assert "the token 'ci' was revoked" in details

    short = await server.token("viewer", name="short", expires_in_s=0.01)
    access = access_pb2_grpc.AccessServiceStub(await server.channel(token=short.secret))
    await asyncio.sleep(0.02)
    code, details = await refusal(access.WhoAmI(access_pb2.WhoAmIRequest()))
    assert code is UNAUTHENTICATED
    assert "the token 'short' expired" in details


async def test_devices_and_operators_keep_to_their_own_methods(server: Running) -> None:
    """A device is no operator, whatever it calls, and an operator no device."""
    member = await server.enroll()
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(await server.channel(member=member))
    assert await refusal(fleet.ListDevices(fleet_pb2.ListDevicesRequest())) == (
        DENIED,
        f"listing devices is for operators; the device {member.id} is none",
    )
    agent: agent_pb2_grpc.AgentServiceAsyncStub = agent_pb2_grpc.AgentServiceStub(
        await server.channel(token=server.admin)
    )
    assert await refusal(agent.Report(agent_pb2.ReportRequest())) == (
        DENIED,
        "reporting telemetry is for devices; the token 'first-admin' is none",
    )


async def test_operator_comes_by_certificate(server: Running) -> None:
    """On the device port a certificate is an operator's credential, with the role that it was issued with."""
    made = new_key()
    admin = await server.access()
    issued = await admin.IssueCertificate(
        access_pb2.IssueCertificateRequest(name="ops", role="viewer", csr_pem=made.csr_pem, expires_in_s=600)
    )
    member = Member(id=issued.id, key_pem=made.key_pem, certificate_pem=issued.certificate_pem)
    access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(
        await server.channel(member=member)
    )
    identity = await access.WhoAmI(access_pb2.WhoAmIRequest())
    assert (identity.name, identity.role) == ("ops", "viewer")
    assert await refusal(access.ListTokens(access_pb2.ListTokensRequest())) == (
        DENIED,
        "listing credentials needs the role admin; the certificate 'ops' has viewer",
    )


async def test_device_port_is_closed_to_strangers(server: Running, fleet: Fleet) -> None:
    """Without a certificate, or with one of another fleet, no call gets through TLS."""
    stranger = enroll_in(fleet)
    channels: list[Any] = [await server.channel(device_port=True), await server.channel(member=stranger)]
    for channel in channels:
        code, _ = await refusal(channel.unary_unary("/edgeward.v1.AgentService/Report")(b"", timeout=20))
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_own_certificate_of_the_server_is_nobodys(server: Running) -> None:
    """The coordinator's certificate, were its key stolen, is no device's and no operator's."""
    pem = (server.config.layout.ca / "server.pem").read_bytes()
    thief = Member(id="", key_pem=pem, certificate_pem=pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    channel: Any = await server.channel(member=thief)
    code, _ = await refusal(channel.unary_unary("/edgeward.v1.AgentService/Report")(b"", timeout=20))
    assert code in (grpc.StatusCode.UNAVAILABLE, UNAUTHENTICATED)


async def test_session_ends_with_its_certificate(tmp_path: Path) -> None:
    """A stream is over when the certificate that opened it expires, however long it is left open."""
    config = config_in(tmp_path / "data", device_certificate_lifetime=timedelta(seconds=3))
    async with running(config) as server:
        agent = await server.agent(await server.enroll())
        call = open_stream(agent.Session)
        await call.write(agent_pb2.SessionUp(hello=agent_pb2.Hello()))
        assert (await call.read()).WhichOneof("body") == "welcome"

        async def read_on() -> None:
            while await call.read() is not EOF:
                await call.write(agent_pb2.SessionUp(heartbeat=agent_pb2.Heartbeat()))

        code, details = await refusal(read_on())
    assert code is UNAUTHENTICATED
    assert "expired at" in details


@pytest.fixture
def control(database: Database, fleet: Fleet, calls: RunningCalls, clock: SetClock) -> AccessControl:
    """On an empty database."""
    return AccessControl(access=Access(database), fleet=fleet, calls=calls, clock=clock)


async def test_method_without_a_line_is_refused(control: AccessControl) -> None:
    """A method that somebody serves and nobody wrote into the table is closed to all."""
    with pytest.raises(PermissionDenied, match="/x/Y"):
        async with control.admitted("/x/Y", None):  # type: ignore[arg-type]  # refused before the context is read
            pass


async def test_operator_who_is_revoked_watches_no_more(
    control: AccessControl, database: Database, calls: RunningCalls
) -> None:
    """An endless call ends soon after its caller lost the credential; others go on."""
    access = Access(database)
    stays, goes = (
        access.create_token(name=name, role=Role.VIEWER, expires_in=None, actor="test") for name in ("stays", "goes")
    )
    access.create_token(name="admin", role=Role.ADMIN, expires_in=None, actor="test")

    async def watch(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"now"
        await asyncio.Event().wait()

    async with serving(
        mapped, control.admitted, service="edgeward.v1.FleetService", arity="unary_stream", WatchDevices=watch
    ) as channel:
        watches = [
            channel.unary_stream("/edgeward.v1.FleetService/WatchDevices")(
                b"", metadata=(("authorization", f"Bearer {secret}"),)
            )
            for _, secret in (stays, goes)
        ]
        assert [await each.read() for each in watches] == [b"now", b"now"]
        access.revoke(goes[0].id, actor="test")
        await control.recheck_operators()
        code, details = await refusal(watches[1].read())
        assert calls.count() == 1
    assert code is UNAUTHENTICATED
    assert "'goes' was revoked" in details


async def test_enrollment_has_a_bound(control: AccessControl) -> None:
    """Past the bound a stranger is told to come back; a place that becomes free is given again."""
    bound = REQUIREMENTS["/edgeward.v1.EnrollmentService/Enroll"].at_once
    go_on = asyncio.Event()

    async def enroll(request: bytes, _context: object) -> bytes:
        await go_on.wait()
        return request

    async with serving(
        mapped, control.admitted, service="edgeward.v1.EnrollmentService", arity="unary_unary", Enroll=enroll
    ) as channel:
        ask = channel.unary_unary("/edgeward.v1.EnrollmentService/Enroll")
        asked = [asyncio.ensure_future(ask(b"in")) for _ in range(bound + 1)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        code, details = await refusal(done.pop())
        go_on.set()
        assert await asyncio.gather(*waiting) == [b"in"] * bound
        assert await ask(b"again") == b"again"
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "enrolling: too many at the same time")
