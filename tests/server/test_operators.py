"""Operators' credentials, over the wire."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.v1 import access_pb2, access_pb2_grpc
from tests.server.harness import refusal
from tests.server.people import Member, new_key

if TYPE_CHECKING:
    from tests.server.harness import Running


async def test_everybody_learns_who_they_are(server: Running) -> None:
    """Name and role as the coordinator has them, and its version."""
    made = await server.token("operator", name="ann")
    stub = access_pb2_grpc.AccessServiceStub(await server.channel(token=made.secret))
    answer = await stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=20)
    assert (answer.name, answer.role, answer.server_version) == ("ann", "operator", version("edgeward"))


async def test_credentials_are_listed_without_their_secrets(server: Running) -> None:
    """Kind, role, and the instants that there are."""
    made = await server.token("viewer", name="ci", expires_in_s=3600)
    access = await server.access()
    listed = (await access.ListTokens(access_pb2.ListTokensRequest(), timeout=20)).tokens
    assert [(each.name, each.kind, each.role) for each in listed] == [
        ("first-admin", "token", "admin"),
        ("ci", "token", "viewer"),
    ]
    assert listed[1] == made.token
    assert [each.HasField("expires_at") for each in listed] == [False, True]
    assert not any(each.HasField("revoked_at") for each in listed)
    assert made.secret not in str(listed)


async def test_a_certificate_makes_an_operator(server: Running) -> None:
    """Its key never left the asker; it opens the port for certificates with the role that was granted."""
    made, access = new_key(), await server.access()
    request = access_pb2.IssueCertificateRequest(name="bob", role="viewer", csr_pem=made.csr_pem, expires_in_s=3600)
    issued = await access.IssueCertificate(request, timeout=20)
    assert issued.fleet_ca_pem == server.ca_pem
    bob = Member(id=issued.id, key_pem=made.key_pem, certificate_pem=issued.certificate_pem)
    stub = access_pb2_grpc.AccessServiceStub(await server.channel(member=bob))
    answer = await stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=20)
    assert (answer.name, answer.role) == ("bob", "viewer")
    await access.RevokeToken(access_pb2.RevokeTokenRequest(id=issued.id), timeout=20)
    code, said = await refusal(stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=20))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "revoked" in said


async def test_the_last_admin_stays(server: Running) -> None:
    """Also if they ask for it themselves."""
    access = await server.access()
    listed = (await access.ListTokens(access_pb2.ListTokensRequest(), timeout=20)).tokens
    code, said = await refusal(access.RevokeToken(access_pb2.RevokeTokenRequest(id=listed[0].id), timeout=20))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "last active admin" in said


@pytest.mark.parametrize(
    "request_",
    [
        access_pb2.CreateTokenRequest(name="ci", role="root"),
        access_pb2.CreateTokenRequest(name="ci"),
        access_pb2.CreateTokenRequest(name="", role="viewer"),
        access_pb2.CreateTokenRequest(name="a\0b", role="viewer"),
        access_pb2.CreateTokenRequest(name="ci", role="viewer", expires_in_s=-1),
        access_pb2.CreateTokenRequest(name="ci", role="viewer", expires_in_s=math.nan),
        access_pb2.CreateTokenRequest(name="ci", role="viewer", expires_in_s=math.inf),
    ],
    ids=["unknown-role", "no-role", "no-name", "null", "past", "nan", "inf"],
)
async def test_a_token_that_makes_no_sense_is_refused(server: Running, request_: access_pb2.CreateTokenRequest) -> None:
    """As the caller's mistake, never as an incident."""
    access = await server.access()
    assert (await refusal(access.CreateToken(request_, timeout=20)))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("csr_pem", "expires_in_s"),
    [(b"garbage", 3600.0), (None, 0.0), (None, 1e300)],
    ids=["no-csr", "no-time", "for-ever"],
)
async def test_a_certificate_that_makes_no_sense_is_refused(
    server: Running, csr_pem: bytes | None, expires_in_s: float
) -> None:
    """And no credential remains of it."""
    access = await server.access()
    request = access_pb2.IssueCertificateRequest(
        name="bob", role="viewer", csr_pem=csr_pem or new_key().csr_pem, expires_in_s=expires_in_s
    )
    assert (await refusal(access.IssueCertificate(request, timeout=20)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert len((await access.ListTokens(access_pb2.ListTokensRequest(), timeout=20)).tokens) == 1
