"""The identity on disk."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward_agent.errors import Misuse, Refused
from edgeward_agent.identity import Credential, Identity, IdentityStore, IssuedCredential, NotEnrolled
from tests.agent.simulator import SimulatedCA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def ca() -> SimulatedCA:
    """A fleet's CA."""
    return SimulatedCA()


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    """An empty one."""
    return IdentityStore(tmp_path / "identity")


def issue(ca: SimulatedCA, credential: Credential) -> IssuedCredential:
    certificate_pem = ca.sign(credential.csr_pem, common_name="device", lifetime=timedelta(days=1))
    return IssuedCredential(certificate_pem=certificate_pem, fleet_ca_pem=ca.certificate_pem)


def enroll(store: IdentityStore, ca: SimulatedCA) -> Identity:
    credential = store.begin(name="pump-7")
    return store.complete_enrollment(
        credential,
        issue(ca, credential),
        device_id="00000000000000d1",
        name="pump-7",
        group="lab",
        address="127.0.0.1:7444",
        labels={"site": "a"},
    )


def test_the_key_is_p256_private_and_durable_before_the_request(store: IdentityStore, tmp_path: Path) -> None:
    """The key's file is there with mode 0600 in a 0700 folder when the request is made, and the request is for it."""
    credential = store.begin(name="pump-7")
    path = tmp_path / "identity" / "1" / "key.pem"
    assert path.read_bytes() == credential.key_pem
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    request = x509.load_pem_x509_csr(credential.csr_pem)
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_request_that_was_not_answered_is_repeated_with_the_same_key(store: IdentityStore) -> None:
    """A coordinator that already signed it can recognise it."""
    assert store.begin(name="pump-7").key_pem == store.begin(name="pump-7").key_pem


def test_enrollment_is_read_back_after_a_restart(store: IdentityStore, ca: SimulatedCA, tmp_path: Path) -> None:
    """Another store on the same folder gives the same identity."""
    identity = enroll(store, ca)
    assert IdentityStore(tmp_path / "identity").load() == identity
    assert identity.labels == {"site": "a"}
    assert identity.not_before < identity.not_after


def test_without_enrollment_the_message_says_what_to_run(store: IdentityStore) -> None:
    """A key alone is no identity."""
    store.begin(name="pump-7")
    assert not store.is_enrolled
    with pytest.raises(NotEnrolled, match="edgeward-agent enroll"):
        store.load()


def test_renewal_rotates_the_key_and_leaves_one_credential(
    store: IdentityStore, ca: SimulatedCA, tmp_path: Path
) -> None:
    """New key and certificate, the same device, and the old key is gone from the disk."""
    before = enroll(store, ca)
    credential = store.begin(name=before.name)
    after = store.complete_renewal(credential, issue(ca, credential))
    assert after.key_pem != before.key_pem
    assert (after.device_id, after.labels) == (before.device_id, before.labels)
    assert sorted(path.name for path in (tmp_path / "identity").iterdir()) == ["2", "identity.json"]


def _damage_nothing(folder: Path) -> None:
    """Power fails right after the key was made."""


def _lose_certificate(folder: Path) -> None:
    (folder / "2" / "fleet-ca.pem").write_bytes(b"")


def _half_written_certificate(folder: Path) -> None:
    (folder / "2" / "certificate.pem").write_bytes(b"-----BEGIN")


@pytest.mark.parametrize("damage", [_damage_nothing, _lose_certificate, _half_written_certificate])
def test_an_unfinished_renewal_leaves_the_old_identity_in_force(
    store: IdentityStore, ca: SimulatedCA, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Whatever of the next credential is on disk, only `identity.json` puts it in force."""
    before = enroll(store, ca)
    store.begin(name=before.name)
    damage(tmp_path / "identity")
    restarted = IdentityStore(tmp_path / "identity")
    assert restarted.load() == before
    credential = restarted.begin(name=before.name)
    assert restarted.complete_renewal(credential, issue(ca, credential)).key_pem == credential.key_pem


def test_a_certificate_for_another_key_is_refused(store: IdentityStore, ca: SimulatedCA, tmp_path: Path) -> None:
    """The identity in force stays."""
    before = enroll(store, ca)
    elsewhere = IdentityStore(tmp_path / "elsewhere").begin(name="other")
    with pytest.raises(Refused, match="not for this device's key"):
        store.complete_renewal(store.begin(name="pump-7"), issue(ca, elsewhere))
    assert store.load() == before


def test_an_answer_without_certificate_is_refused(store: IdentityStore, ca: SimulatedCA) -> None:
    """Bytes that are no PEM never become an identity."""
    enroll(store, ca)
    credential = store.begin(name="pump-7")
    with pytest.raises(Refused, match="holds no certificate"):
        store.complete_renewal(credential, IssuedCredential(certificate_pem=b"?", fleet_ca_pem=b"?"))


def _remove_credential(folder: Path) -> None:
    shutil.rmtree(folder / "1")


def _truncate_pointer(folder: Path) -> None:
    (folder / "identity.json").write_bytes(b"")


def _pointer_of_another_form(folder: Path) -> None:
    (folder / "identity.json").write_text(json.dumps(["credential"]))


def _garble_certificate(folder: Path) -> None:
    (folder / "1" / "certificate.pem").write_bytes(b"no certificate")


@pytest.mark.parametrize(
    "damage", [_remove_credential, _truncate_pointer, _pointer_of_another_form, _garble_certificate]
)
def test_a_damaged_identity_is_named_and_replaceable(
    store: IdentityStore, ca: SimulatedCA, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """One sentence with the way out, and the way out works."""
    enroll(store, ca)
    damage(tmp_path / "identity")
    with pytest.raises(Misuse, match=r"damaged.*--force"):
        store.load()
    assert enroll(store, ca).device_id == "00000000000000d1"
    assert store.load().name == "pump-7"
