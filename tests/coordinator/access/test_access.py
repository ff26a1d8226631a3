"""Operators' credentials: made, shown once, looked up, revoked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from edgeward_coordinator.access import Access, CredentialKind, Role
from edgeward_coordinator.errors import CoordinatorError, FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from edgeward_coordinator.identity import FleetCA, PeerKind, read_peer_certificate
from edgeward_coordinator.storage import AuditLog, Database, schema
from tests.csr import make_csr

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import SetClock


@pytest.fixture
def access(database: Database) -> Access:
    """Over an empty database."""
    return Access(database)


def _token(access: Access, *, role: Role = Role.VIEWER, expires_in: timedelta | None = None) -> tuple[str, str]:
    credential, secret = access.create_token(name="ci", role=role, expires_in=expires_in, actor="alice")
    return credential.id, secret


def test_the_first_admin_is_made_once(access: Access) -> None:
    """At the first start there is a secret, at the second none."""
    secret = access.ensure_first_admin()
    assert secret is not None
    assert access.authenticate_token(secret).role is Role.ADMIN
    assert access.ensure_first_admin() is None


def test_no_first_admin_where_any_credential_was_ever_made(access: Access) -> None:
    """A revoked or expired one counts too: else whoever can restart the server becomes admin."""
    credential_id, _ = _token(access)
    access.revoke(credential_id, actor="alice")
    assert access.ensure_first_admin() is None


def test_coordinators_that_start_together_make_one_first_admin(access: Access, database: Database) -> None:
    """One of them gets the secret, and only that one is in the log."""
    with ThreadPoolExecutor(8) as threads:
        secrets = list(threads.map(lambda _: access.ensure_first_admin(), range(8)))
    assert len([secret for secret in secrets if secret]) == 1
    assert len(access.list_credentials()) == 1
    assert [entry.action for entry in AuditLog(database).entries(after=0, limit=9)] == ["credential.create"]


def test_a_token_says_who_shows_it(access: Access) -> None:
    """Name, role and the credential's id."""
    credential_id, secret = _token(access, role=Role.OPERATOR)
    principal = access.authenticate_token(secret)
    assert (principal.name, principal.role, principal.credential_id) == ("ci", Role.OPERATOR, credential_id)


def test_a_secret_has_256_random_bits(access: Access) -> None:
    """Hence nothing to guess, and no slow hash is needed."""
    secrets = {_token(access)[1] for _ in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith("ewt_") and len(secret) == 4 + 43 for secret in secrets)


def test_the_secret_is_stored_nowhere(access: Access, database: Database) -> None:
    """Neither in its table nor in the audit log."""
    _, secret = _token(access)
    with database.read() as connection:
        stored = [
            *connection.execute(select(schema.operator_credential)),
            *connection.execute(select(schema.audit_entry)),
        ]
    assert stored
    assert secret not in repr(stored)


def test_an_unknown_token_is_refused(access: Access) -> None:
    """One of another coordinator, say."""
    with pytest.raises(Unauthenticated, match="does not know this token"):
        access.authenticate_token("ewt_" + "x" * 43)


@pytest.mark.parametrize(
    "secret",
    ["", "ewe_" + "x" * 43, "ewt_" + "x" * 5000, "Bearer ewt_"],
    ids=["empty", "for-enrollment", "long", "with-its-scheme"],
)
def test_what_is_no_token_is_refused_as_that(access: Access, secret: str) -> None:
    """An enrollment token in the wrong place is the most likely."""
    with pytest.raises(Unauthenticated, match="not an operator's token"):
        access.authenticate_token(secret)


def test_a_revoked_token_says_since_when(access: Access, clock: SetClock) -> None:
    """So that its holder asks the right question."""
    credential_id, secret = _token(access)
    clock.advance(timedelta(hours=1))
    access.revoke(credential_id, actor="alice")
    with pytest.raises(Unauthenticated, match="'ci' was revoked at 2026-01-01 13:00 UTC"):
        access.authenticate_token(secret)


def test_an_expired_token_says_since_when(access: Access, clock: SetClock) -> None:
    """It works to its last moment and not after."""
    _, secret = _token(access, expires_in=timedelta(hours=1))
    clock.advance(timedelta(hours=1, microseconds=-1))
    access.authenticate_token(secret)
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="'ci' expired at 2026-01-01 13:00 UTC"):
        access.authenticate_token(secret)


@pytest.mark.parametrize(
    ("name", "expires_in"),
    [
        ("", None),
        ("a b", None),
        ("x" * 65, None),
        ("ci", timedelta()),
        ("ci", timedelta(seconds=-1)),
        ("ci", timedelta(days=4000)),
    ],
    ids=["no-name", "space", "long-name", "no-time", "past", "too-long"],
)
def test_a_token_that_makes_no_sense_is_refused(access: Access, name: str, expires_in: timedelta | None) -> None:
    """And nothing is stored."""
    with pytest.raises(InvalidArgument):
        access.create_token(name=name, role=Role.VIEWER, expires_in=expires_in, actor="alice")
    assert access.list_credentials() == []


def test_a_certificate_opens_the_door_by_its_serial(access: Access, tmp_path: Path, clock: SetClock) -> None:
    """What the CA signs for an operator is known here, with its expiry."""
    ca = FleetCA.load_or_create(tmp_path / "ca", clock=clock)
    credential, issued = access.issue_certificate(
        ca, csr_pem=make_csr(), name="bob", role=Role.OPERATOR, lifetime=timedelta(days=1), actor="alice"
    )
    peer = read_peer_certificate(issued.pem)
    assert (peer.kind, peer.id) == (PeerKind.OPERATOR, credential.id)
    principal = access.authenticate_certificate(peer.serial)
    assert (principal.name, principal.role, principal.credential_id) == ("bob", Role.OPERATOR, credential.id)
    clock.advance(timedelta(days=1))
    with pytest.raises(Unauthenticated, match="the certificate 'bob' expired"):
        access.authenticate_certificate(peer.serial)


def test_a_certificate_that_was_never_registered_opens_nothing(access: Access) -> None:
    """Though the fleet CA signed it."""
    with pytest.raises(Unauthenticated, match="does not know this certificate"):
        access.authenticate_certificate("abc123")


def test_a_tokens_hash_is_no_certificate(access: Access, database: Database) -> None:
    """The two kinds of verifier never stand in for each other."""
    _token(access)
    with database.read() as connection:
        verifier = connection.execute(select(schema.operator_credential.c.verifier)).scalar_one()
    with pytest.raises(Unauthenticated):
        access.authenticate_certificate(verifier)


def test_credentials_are_listed_by_age(access: Access, clock: SetClock) -> None:
    """The revoked ones included, with who made them."""
    first, _ = _token(access)
    clock.advance(timedelta(minutes=1))
    second, _ = _token(access, role=Role.ADMIN)
    access.revoke(first, actor="alice")
    listed = access.list_credentials()
    assert [each.id for each in listed] == [first, second]
    assert [each.revoked_at for each in listed] == [clock.now, None]
    assert {(each.kind, each.created_by) for each in listed} == {(CredentialKind.TOKEN, "alice")}


def test_revoking_what_does_not_exist_is_not_found(access: Access) -> None:
    """Also where the id is no id at all."""
    for wrong in ("0" * 16, "x" * 5000):
        with pytest.raises(NotFound):
            access.revoke(wrong, actor="alice")


def test_revoking_twice_says_since_when(access: Access) -> None:
    """The first instant stays."""
    credential_id, _ = _token(access)
    access.revoke(credential_id, actor="alice")
    with pytest.raises(FailedPrecondition, match="already revoked at 2026-01-01 12:00 UTC"):
        access.revoke(credential_id, actor="alice")


def test_the_last_active_admin_stays(access: Access, clock: SetClock) -> None:
    """Expired and revoked admins don't count, operators neither."""
    last, _ = _token(access, role=Role.ADMIN)
    expiring, _ = _token(access, role=Role.ADMIN, expires_in=timedelta(hours=1))
    _token(access, role=Role.APPROVER)
    clock.advance(timedelta(hours=2))
    with pytest.raises(FailedPrecondition, match="last active admin"):
        access.revoke(last, actor="alice")
    access.revoke(expiring, actor="alice")
    other, _ = _token(access, role=Role.ADMIN)
    access.revoke(last, actor="alice")
    with pytest.raises(FailedPrecondition, match="last active admin"):
        access.revoke(other, actor="alice")


def test_admins_who_revoke_each_other_at_once_leave_one(access: Access) -> None:
    """Each sees the other as the one who stays; the lock lets only one of them be right."""
    admins = [_token(access, role=Role.ADMIN)[0] for _ in range(6)]

    def revoke(credential_id: str) -> bool:
        try:
            access.revoke(credential_id, actor="alice")
        except CoordinatorError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(revoke, admins))
    assert outcomes.count(True) == 5
    assert [each.revoked_at for each in access.list_credentials()].count(None) == 1


def test_what_is_decided_is_audited(access: Access, database: Database) -> None:
    """Who made and who revoked which credential."""
    credential_id, _ = _token(access)
    access.revoke(credential_id, actor="bob")
    entries = AuditLog(database).entries(after=0, limit=9)
    assert [(each.actor, each.action, each.subject) for each in entries] == [
        ("alice", "credential.create", credential_id),
        ("bob", "credential.revoke", credential_id),
    ]
