"""Enrollment and renewal, over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio

from edgeward.v1 import enrollment_pb2, enrollment_pb2_grpc, fleet_pb2
from edgeward_coordinator.identity import read_peer_certificate
from tests.server.harness import refusal
from tests.server.people import Member, new_key

if TYPE_CHECKING:
    from tests.server.harness import Running

    Stub = enrollment_pb2_grpc.EnrollmentServiceAsyncStub


async def _secret(server: Running, *, uses: int = 1) -> str:
    stub = await server.fleet()
    request = fleet_pb2.CreateEnrollmentTokenRequest(group="lab", uses=uses, expires_in_s=600)
    return (await stub.CreateEnrollmentToken(request)).secret


@pytest_asyncio.fixture
async def stranger(server: Running) -> Stub:
    """Somebody without any credential."""
    return enrollment_pb2_grpc.EnrollmentServiceStub(await server.channel())


def _request(secret: str, **fields: Any) -> enrollment_pb2.EnrollRequest:
    whole: dict[str, Any] = {"token": secret, "csr_pem": new_key().csr_pem, "device_name": "edge-1", **fields}
    return enrollment_pb2.EnrollRequest(**whole)


async def test_a_stranger_with_a_token_becomes_a_device(server: Running, stranger: Stub) -> None:
    """It gets a certificate, its group, whom to trust and where to go from then on."""
    answer = await stranger.Enroll(_request(await _secret(server)), timeout=20)
    assert read_peer_certificate(answer.certificate_pem).id == answer.device_id
    assert (answer.group, answer.fleet_ca_pem) == ("lab", server.ca_pem)
    assert answer.device_port == server.endpoints.device_port
    assert answer.HasField("not_after")


async def test_each_bad_token_has_its_own_answer(server: Running, stranger: Stub) -> None:
    """Wrong, spent, and no token at all."""
    secret = await _secret(server)
    await stranger.Enroll(_request(secret), timeout=20)
    for bad, said in ((secret, "spent"), ("ewe_" + "x" * 43, "does not know"), ("", "not an enrollment token")):
        code, message = await refusal(stranger.Enroll(_request(bad), timeout=20))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert said in message


@pytest.mark.parametrize(
    "fields",
    [
        {"csr_pem": b""},
        {"csr_pem": b"x" * 3_000_000},
        {"device_name": "a b"},
        {"device_name": "x" * 1_000_000},
        {"labels": {str(number): "x" for number in range(100_000)}},
    ],
    ids=["no-csr", "huge-csr", "bad-name", "huge-name", "many-labels"],
)
async def test_a_bad_request_is_the_callers_mistake(server: Running, stranger: Stub, fields: dict[str, Any]) -> None:
    """However large, it spends nothing, and the token is good afterwards."""
    secret = await _secret(server)
    code, _ = await refusal(stranger.Enroll(_request(secret, **fields), timeout=30))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    await stranger.Enroll(_request(secret), timeout=20)


async def test_a_device_renews_and_goes_on_with_the_new_certificate(server: Running) -> None:
    """From the first use of the new one, the old one is refused."""
    member = await server.enroll()
    made = new_key()
    stub: Stub = enrollment_pb2_grpc.EnrollmentServiceStub(await server.channel(member=member))
    answer = await stub.Renew(enrollment_pb2.RenewRequest(csr_pem=made.csr_pem), timeout=20)
    renewed = Member(id=member.id, key_pem=made.key_pem, certificate_pem=answer.certificate_pem)
    assert answer.fleet_ca_pem == server.ca_pem
    assert read_peer_certificate(answer.certificate_pem).id == member.id
    after: Stub = enrollment_pb2_grpc.EnrollmentServiceStub(await server.channel(member=renewed))
    await after.Renew(enrollment_pb2.RenewRequest(csr_pem=new_key().csr_pem), timeout=20)
    code, said = await refusal(stub.Renew(enrollment_pb2.RenewRequest(csr_pem=made.csr_pem), timeout=20))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "superseded" in said


async def test_renewing_needs_a_device(server: Running) -> None:
    """An operator has nothing to renew."""
    stub: Stub = enrollment_pb2_grpc.EnrollmentServiceStub(await server.channel(token=server.admin))
    code, _ = await refusal(stub.Renew(enrollment_pb2.RenewRequest(csr_pem=new_key().csr_pem), timeout=20))
    assert code is grpc.StatusCode.PERMISSION_DENIED
