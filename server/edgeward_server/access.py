"""Who calls, and may they: asked once for every call, before its servicer hears of it.

A connection with a certificate is who the certificate says; else the token in
the metadata (`authorization: Bearer ewt_…`) says who. Every call asks the
database, so a revocation is in force at the next call; `RunningCalls` ends the
ones that are in the middle.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from edgeward_coordinator.errors import PermissionDenied, Unauthenticated, Unavailable
from edgeward_coordinator.identity import PeerCertificate, PeerKind, read_peer_certificate
from edgeward_server.callers import NOBODY, Caller, set_caller
from edgeward_server.requirements import ANYONE, REQUIREMENTS, Requirement
from edgeward_server.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from datetime import datetime

    import grpc

    from edgeward_coordinator.access import Access
    from edgeward_coordinator.fleet import Fleet
    from edgeward_server.running import RunningCall, RunningCalls

_SCHEME = "bearer "


class AccessControl:
    """The frame that identifies the caller and holds the call against the table.

    Args:
        access: Knows operators.
        fleet: Knows devices.
        calls: Where the call is counted while it runs.
        clock: Aware UTC now.
    """

    def __init__(self, *, access: Access, fleet: Fleet, calls: RunningCalls, clock: Callable[[], datetime]) -> None:
        self._access = access
        self._fleet = fleet
        self._calls = calls
        self._clock = clock
        self._at_once: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        """Let the call in, or end it with the reason."""
        requirement = REQUIREMENTS.get(method)
        if requirement is None:
            raise PermissionDenied(f"nobody may call {method}: its requirement is not written down")
        credential = None if requirement.needs is ANYONE else _credential_of(context)
        # Counted before it is checked: a device that is revoked in between is found by one of the two.
        with (
            self._within_bound(method, requirement),
            self._calls.of(_owner(credential), endless=requirement.endless) as call,
            self._until_expiry(call, credential),
        ):
            caller = NOBODY if credential is None else await in_thread(self._identify, credential)
            requirement.verify_met_by(caller)
            set_caller(caller)
            if credential is not None and caller.principal is not None:
                call.recheck = partial(self._identify, credential)
            yield

    async def recheck_operators(self) -> None:
        """End the endless calls of operators who have lost their credential meanwhile."""
        for call, recheck in self._calls.rechecks():
            try:
                await in_thread(recheck)
            except Unauthenticated as error:
                call.end(error)

    def _identify(self, credential: PeerCertificate | str) -> Caller:
        if isinstance(credential, str):
            principal = self._access.authenticate_token(credential)
            return Caller(principal=principal, description=f"the token {principal.name!r}")
        if credential.kind is PeerKind.DEVICE:
            device = self._fleet.authenticate_device(credential.id, credential.serial)
            return Caller(device=device, description=f"the device {device.id}")
        principal = self._access.authenticate_certificate(credential.serial)
        return Caller(principal=principal, description=f"the certificate {principal.name!r}")

    @contextmanager
    def _until_expiry(self, call: RunningCall, credential: PeerCertificate | str | None) -> Iterator[None]:
        """End a call whose certificate expires: TLS looks only when a connection is made, the database at the start."""
        if not isinstance(credential, PeerCertificate):
            yield
            return
        left_s = (credential.not_after - self._clock()).total_seconds()
        timer = asyncio.get_running_loop().call_later(left_s, call.end, _expired(credential))
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def _within_bound(self, method: str, requirement: Requirement) -> Iterator[None]:
        if requirement.at_once and self._at_once[method] >= requirement.at_once:
            raise Unavailable(f"{requirement.deed}: too many at the same time", hint="try again in a moment")
        self._at_once[method] += 1
        try:
            yield
        finally:
            self._at_once[method] -= 1


def _expired(certificate: PeerCertificate) -> Unauthenticated:
    at = certificate.not_after.isoformat(timespec="seconds")
    return Unauthenticated(f"the certificate expired at {at}", hint="connect with a renewed one, or enroll again")


def _credential_of(context: grpc.aio.ServicerContext[Any, Any]) -> PeerCertificate | str | None:
    """A certificate, a token's secret, or nothing."""
    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    if pem is not None:
        return _read_certificate(pem)
    return _bearer_token(context.invocation_metadata() or ())


# A connection makes many calls.
_read_certificate = lru_cache(maxsize=4096)(read_peer_certificate)


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The secret in the metadata; None where there is none.

    Raises:
        Unauthenticated: There is an authorization, of another kind.
    """
    value = next((value for key, value in metadata if key == "authorization"), None)
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not text.lower().startswith(_SCHEME):
        raise Unauthenticated("the authorization is no bearer token", hint="send it as: Bearer ewt_…")
    return text[len(_SCHEME) :].strip()


def _owner(credential: PeerCertificate | str | None) -> str:
    """Under which name a call is counted: a device's id; for operators anything that is no device's id."""
    match credential:
        case None:
            return "anyone"
        case str(secret):
            return f"token {hashlib.sha256(secret.encode()).hexdigest()}"
        case PeerCertificate(kind=PeerKind.DEVICE):
            return credential.id
        case _:
            return f"operator {credential.id}"
