"""Operators' credentials: made, shown once, looked up at each call, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward_coordinator.access import store
from edgeward_coordinator.access.credentials import Credential, CredentialKind, Principal
from edgeward_coordinator.access.roles import Role
from edgeward_coordinator.access.tokens import OPERATOR_PREFIX, new_id, new_secret, verifier_of
from edgeward_coordinator.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from edgeward_coordinator.names import verify_name
from edgeward_coordinator.storage import Change

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward_coordinator.identity import FleetCA, IssuedCertificate
    from edgeward_coordinator.storage import Database

MAX_LIFETIME = timedelta(days=3650)

_FIRST_ADMIN = "first-admin"
_COORDINATOR = "coordinator"
_MAX_SECRET_CHARACTERS = 128


class Access:
    """Who may operate the fleet. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure_first_admin(self) -> str | None:
        """Make the first admin's token where no credential has ever been made.

        Several coordinators may start on one database together: one of them gets the secret.

        Returns:
            The secret, to be shown once; None where there is a credential already.
        """
        with self._database.read() as connection:
            if store.has_any_credential(connection):
                return None
        secret = new_secret(OPERATOR_PREFIX)
        credential = self._new(
            kind=CredentialKind.TOKEN, name=_FIRST_ADMIN, role=Role.ADMIN, expires_in=None, actor=_COORDINATOR
        )
        try:
            with self._database.change(_creation_of(credential, actor=_COORDINATOR)) as connection:
                store.lock_all_changes(connection)
                if store.has_any_credential(connection):
                    raise AlreadyExists("another coordinator made the first admin")
                store.insert_credential(connection, credential, verifier=verifier_of(secret))
        except AlreadyExists:
            return None
        return secret

    def create_token(
        self, *, name: str, role: Role, expires_in: timedelta | None, actor: str
    ) -> tuple[Credential, str]:
        """Make a token.

        Args:
            name: Whose, or what for; need not be unique.
            role: What it may.
            expires_in: For how long; None: until it is revoked.
            actor: Who makes it.

        Returns:
            The credential, and its secret, which is stored nowhere.

        Raises:
            InvalidArgument: The name can't be one, or the lifetime is not positive or beyond ten years.
        """
        secret = new_secret(OPERATOR_PREFIX)
        credential = self._new(kind=CredentialKind.TOKEN, name=name, role=role, expires_in=expires_in, actor=actor)
        with self._database.change(_creation_of(credential, actor=actor)) as connection:
            store.insert_credential(connection, credential, verifier=verifier_of(secret))
        return credential, secret

    def register_certificate(
        self, *, credential_id: str, name: str, role: Role, serial: str, expires_at: datetime, actor: str
    ) -> Credential:
        """Let the certificate of that serial number in; call it before the certificate is handed out.

        Raises:
            InvalidArgument: The name can't be one.
        """
        verify_name(name, of="an operator")
        credential = Credential(
            id=credential_id,
            kind=CredentialKind.CERTIFICATE,
            name=name,
            role=role,
            created_at=self._database.clock(),
            created_by=actor,
            expires_at=expires_at,
            revoked_at=None,
        )
        with self._database.change(_creation_of(credential, actor=actor)) as connection:
            store.insert_credential(connection, credential, verifier=serial)
        return credential

    def issue_certificate(
        self, ca: FleetCA, *, csr_pem: bytes, name: str, role: Role, lifetime: timedelta, actor: str
    ) -> tuple[Credential, IssuedCertificate]:
        """Sign a certificate for an operator and let it in.

        Raises:
            InvalidArgument: The name or the request can't be one, or the lifetime is not positive or beyond ten years.
        """
        _verify_lifetime(lifetime)
        credential_id = new_id()
        issued = ca.sign_operator(csr_pem, credential_id=credential_id, lifetime=lifetime)
        credential = self.register_certificate(
            credential_id=credential_id,
            name=name,
            role=role,
            serial=issued.serial,
            expires_at=issued.not_after,
            actor=actor,
        )
        return credential, issued

    def authenticate_token(self, secret: str) -> Principal:
        """Who shows this secret.

        Raises:
            Unauthenticated: Nobody: it is unknown, revoked or expired.
        """
        if not secret.startswith(OPERATOR_PREFIX) or len(secret) > _MAX_SECRET_CHARACTERS:
            raise Unauthenticated(
                "this is not an operator's token", hint=f"an operator's token starts with {OPERATOR_PREFIX}"
            )
        return self._authenticate(CredentialKind.TOKEN, verifier_of(secret))

    def authenticate_certificate(self, serial: str) -> Principal:
        """Who shows the certificate of this serial number (lower-case hexadecimal); TLS has verified the rest.

        Raises:
            Unauthenticated: Nobody: it is unknown, revoked or expired.
        """
        return self._authenticate(CredentialKind.CERTIFICATE, serial)

    def list_credentials(self) -> list[Credential]:
        """All, the oldest first, those that opened the door once included."""
        with self._database.read() as connection:
            return store.select_credentials(connection)

    def revoke(self, credential_id: str, *, actor: str) -> Credential:
        """Shut the door on a credential, for ever.

        Raises:
            NotFound: No such credential.
            FailedPrecondition: It is revoked already, or it is the last active admin's.
        """
        now = self._database.clock()
        change = Change(actor=actor, action="credential.revoke", subject=credential_id[:64], detail={})
        with self._database.change(change) as connection:
            active_admins = store.lock_active_admins(connection, now=now)
            credential = store.find_by_id(connection, credential_id)
            if credential is None:
                raise NotFound(f"no credential {credential_id[:64]!r}", hint="`edgeward tokens list` shows them all")
            if credential.revoked_at is not None:
                raise FailedPrecondition(
                    f"the {credential.kind} {credential.name!r} was already revoked at"
                    f" {credential.revoked_at:%Y-%m-%d %H:%M} UTC"
                )
            if active_admins == {credential.id}:
                raise FailedPrecondition(
                    f"{credential.name!r} is the last active admin, and without one nobody could let anybody in",
                    hint="make another admin first",
                )
            store.set_revoked(connection, credential.id, at=now)
        return credential

    def _authenticate(self, kind: CredentialKind, verifier: str) -> Principal:
        with self._database.read() as connection:
            credential = store.find_by_verifier(connection, kind, verifier)
        if credential is None:
            raise Unauthenticated(
                f"this coordinator does not know this {kind}", hint="is it of another coordinator, or mistyped?"
            )
        credential.verify_usable(self._database.clock())
        return Principal(name=credential.name, role=credential.role, credential_id=credential.id)

    def _new(
        self, *, kind: CredentialKind, name: str, role: Role, expires_in: timedelta | None, actor: str
    ) -> Credential:
        verify_name(name, of="an operator")
        if expires_in is not None:
            _verify_lifetime(expires_in)
        now = self._database.clock()
        return Credential(
            id=new_id(),
            kind=kind,
            name=name,
            role=role,
            created_at=now,
            created_by=actor,
            expires_at=None if expires_in is None else now + expires_in,
            revoked_at=None,
        )


def _verify_lifetime(lifetime: timedelta) -> None:
    if not timedelta() < lifetime <= MAX_LIFETIME:
        raise InvalidArgument(
            f"a credential can't live for {lifetime}", hint=f"give a positive time of at most {MAX_LIFETIME.days} days"
        )


def _creation_of(credential: Credential, *, actor: str) -> Change:
    return Change(
        actor=actor,
        action="credential.create",
        subject=credential.id,
        detail={
            "kind": credential.kind.value,
            "name": credential.name,
            "role": credential.role.word,
            "expires_at": None if credential.expires_at is None else credential.expires_at.isoformat(),
        },
    )
