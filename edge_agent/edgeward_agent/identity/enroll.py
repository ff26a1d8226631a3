"""Enrollment: from a pasted string to an identity on disk.

Order: the pinned CA is found, the key is durable, then the token leaves over a
connection that only that CA can vouch for; the answer, the root of trust in
artifacts among it, is on disk before the identity is in force.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgeward_agent.errors import Misuse
from edgeward_agent.identity.address import join_address, split_address
from edgeward_agent.identity.pinning import fetch_pinned_ca

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.enrollment import EnrollmentString
    from edgeward_agent.identity.store import Identity, IdentityStore, IssuedCredential
    from edgeward_agent.trust import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentRequest:
    """What a device says of itself to become a member."""

    token: str = field(repr=False)
    csr_pem: bytes
    device_name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentResult:
    """What a new member is told; `device_port` is on the same host."""

    device_id: str
    group: str
    issued: IssuedCredential
    device_port: int
    trusted_root: bytes = field(repr=False)


class EnrollmentClient(Protocol):
    """How the request travels: over TLS, to a server that `ca_pem` vouches for."""

    async def enroll(self, request: EnrollmentRequest, *, address: str, ca_pem: bytes) -> EnrollmentResult:
        """Ask once.

        Raises:
            Refused: Wrong, spent or expired token, or the server is not who it should be.
            Interrupted: No answer.
        """


async def enroll(
    store: IdentityStore,
    parts: EnrollmentString,
    *,
    client: EnrollmentClient,
    trust: TrustStore,
    name: str,
    labels: Mapping[str, str],
    force: bool = False,
) -> Identity:
    """Become a member of the fleet; blocking disk and handshake work is done in threads.

    A device that is enrolled already keeps the root that it trusts.

    Raises:
        Misuse: An identity is there already and `force` is false.
        Refused: The server is of another fleet (the token was not sent), or it said no, or its root is none.
        Interrupted: No answer; the same again may succeed.
    """
    if store.is_enrolled and not force:
        raise Misuse(
            "this device is enrolled already",
            hint="edgeward-agent status shows as what; --force replaces the identity by a new one",
        )
    ca_pem = await asyncio.to_thread(fetch_pinned_ca, parts.address, parts.ca_fingerprint)
    credential = await asyncio.to_thread(store.begin, name=name)
    request = EnrollmentRequest(token=parts.secret, csr_pem=credential.csr_pem, device_name=name, labels=labels)
    result = await client.enroll(request, address=parts.address, ca_pem=ca_pem)
    await asyncio.to_thread(trust.adopt_root, result.trusted_root, replace=not store.is_enrolled)
    host, _ = split_address(parts.address)
    return await asyncio.to_thread(
        store.complete_enrollment,
        credential,
        result.issued,
        device_id=result.device_id,
        name=name,
        group=result.group,
        address=join_address(host, result.device_port),
        labels=labels,
    )
