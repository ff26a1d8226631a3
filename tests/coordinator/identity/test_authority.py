"""The fleet CA: its files, and what it signs, judged by OpenSSL and by cryptography's own verifier."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, Unauthenticated
from edgeward_coordinator.identity import FleetCA, IssuedCertificate, PeerKind, read_peer_certificate
from tests.csr import key_to_pem, make_csr, make_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import SetClock

_DEVICE = "0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the CA's files lie; not made yet."""
    return tmp_path / "ca"


@pytest.fixture
def ca(folder: Path, clock: SetClock) -> FleetCA:
    """A new fleet CA."""
    return FleetCA.load_or_create(folder, clock=clock)


def _read(issued: IssuedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.pem)


# Its files


def test_the_ca_is_made_once(ca: FleetCA, folder: Path, clock: SetClock) -> None:
    """A restart opens the same."""
    again = FleetCA.load_or_create(folder, clock=clock)
    assert (again.fingerprint, again.certificate_pem) == (ca.fingerprint, ca.certificate_pem)


def test_two_fleets_have_two_cas(ca: FleetCA, tmp_path: Path, clock: SetClock) -> None:
    """Known apart by fingerprint and by name."""
    other = FleetCA.load_or_create(tmp_path / "other", clock=clock)
    assert other.fingerprint != ca.fingerprint
    subjects = [x509.load_pem_x509_certificate(each.certificate_pem).subject for each in (ca, other)]
    assert subjects[0] != subjects[1]


def test_keys_are_for_their_owner_alone(ca: FleetCA, folder: Path) -> None:
    """Nobody else on the machine reads them."""
    ca.issue_server(["localhost"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert (modes["ca-key.pem"], modes["server.pem"]) == (0o600, 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_key_without_certificate_is_completed(ca: FleetCA, folder: Path, clock: SetClock) -> None:
    """The power failed between the two: nothing was signed yet, so a certificate over the same key will do."""
    key = (folder / "ca-key.pem").read_bytes()
    (folder / "ca.pem").unlink()
    completed = FleetCA.load_or_create(folder, clock=clock)
    assert (folder / "ca-key.pem").read_bytes() == key
    assert FleetCA.load_or_create(folder, clock=clock).fingerprint == completed.fingerprint


def test_a_certificate_without_key_is_never_replaced(ca: FleetCA, folder: Path, clock: SetClock) -> None:
    """A new CA in its place would lock every device out without a word."""
    (folder / "ca-key.pem").unlink()
    with pytest.raises(FailedPrecondition, match=r"ca-key\.pem is missing"):
        FleetCA.load_or_create(folder, clock=clock)
    assert not (folder / "ca-key.pem").exists()


@pytest.mark.parametrize("name", ["ca-key.pem", "ca.pem"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"-----BEGIN"], ids=["empty", "binary", "cut"])
def test_a_damaged_file_is_named(ca: FleetCA, folder: Path, clock: SetClock, name: str, content: bytes) -> None:
    """And left as it is."""
    (folder / name).write_bytes(content)
    with pytest.raises(FailedPrecondition, match=f"{name} is damaged"):
        FleetCA.load_or_create(folder, clock=clock)
    assert (folder / name).read_bytes() == content


def test_a_certificate_over_another_key_is_refused(ca: FleetCA, folder: Path, clock: SetClock) -> None:
    """Put back from two different backups."""
    (folder / "ca-key.pem").write_bytes(key_to_pem(make_key()))
    with pytest.raises(FailedPrecondition, match="not of the key beside it"):
        FleetCA.load_or_create(folder, clock=clock)


# The coordinator's certificate


def test_a_server_certificate_is_good_for_its_names(ca: FleetCA, clock: SetClock) -> None:
    """An independent verifier accepts it for each of its names, and for no other."""
    _, pem = ca.issue_server(["coordinator.example", "localhost", "127.0.0.1", "::1"])
    leaf = x509.load_pem_x509_certificate(pem)
    root = x509.load_pem_x509_certificate(ca.certificate_pem)
    builder = verification.PolicyBuilder().store(verification.Store([root])).time(clock.now)
    for name in ("coordinator.example", "localhost"):
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf, [])
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("elsewhere.example")).verify(leaf, [])


def test_a_server_certificate_is_kept_while_it_is_good(ca: FleetCA, folder: Path, clock: SetClock) -> None:
    """The same names in any order, also after a restart, give the same."""
    pair = ca.issue_server(["localhost", "127.0.0.1"])
    again = FleetCA.load_or_create(folder, clock=clock)
    assert again.issue_server(["127.0.0.1", "LOCALHOST", "localhost"]) == pair


def test_other_names_need_another_certificate(ca: FleetCA) -> None:
    """A coordinator that moved."""
    pair = ca.issue_server(["localhost"])
    assert ca.issue_server(["localhost", "10.0.0.1"]) != pair


def test_a_server_certificate_is_exchanged_before_it_ends(ca: FleetCA, clock: SetClock) -> None:
    """With a third of its life left."""
    pair = ca.issue_server(["localhost"])
    clock.advance(timedelta(days=500))
    assert ca.issue_server(["localhost"]) == pair
    clock.advance(timedelta(days=100))
    _, renewed = ca.issue_server(["localhost"])
    assert x509.load_pem_x509_certificate(renewed).not_valid_after_utc > clock.now + timedelta(days=800)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"],
    ids=["empty", "garbage", "armored-garbage"],
)
def test_a_damaged_server_certificate_is_made_anew(ca: FleetCA, folder: Path, content: bytes) -> None:
    """Nobody depends on this one."""
    (folder / "server.pem").write_bytes(content)
    key, pem = ca.issue_server(["localhost"])
    public_key = load_pem_private_key(key, password=None).public_key()
    assert x509.load_pem_x509_certificate(pem).public_key() == public_key


def test_the_ca_itself_is_no_server_certificate(ca: FleetCA, folder: Path) -> None:
    """A file with the wrong certificate in it is made anew, not served."""
    (folder / "server.pem").write_bytes((folder / "ca-key.pem").read_bytes() + ca.certificate_pem)
    _, pem = ca.issue_server(["localhost"])
    assert pem != ca.certificate_pem


@pytest.mark.parametrize("names", [[], [""], ["a b"], ["-x"], ["x" * 254], ["*"], ["a..b"], ["host:7443"]])
def test_what_is_no_name_is_refused(ca: FleetCA, names: list[str]) -> None:
    """Before a certificate is made that matches nothing."""
    with pytest.raises(InvalidArgument):
        ca.issue_server(names)


# Devices' and operators' certificates


def test_a_device_is_who_its_certificate_says(ca: FleetCA) -> None:
    """Whatever the request asked to be called."""
    issued = ca.sign_device(make_csr(common_name="admin"), device_id=_DEVICE)
    peer = read_peer_certificate(issued.pem)
    assert (peer.kind, peer.id, peer.serial) == (PeerKind.DEVICE, _DEVICE, issued.serial)


def test_a_device_certificate_follows_the_profile(ca: FleetCA, clock: SetClock) -> None:
    """No CA, for clients only, tied to the CA's key, from five minutes ago, for 90 days."""
    key = make_key()
    certificate = _read(ca.sign_device(make_csr(key), device_id=_DEVICE))
    extensions = certificate.extensions
    root = x509.load_pem_x509_certificate(ca.certificate_pem)
    assert certificate.public_key() == key.public_key()
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == root_id
    assert certificate.not_valid_before_utc == clock.now - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == clock.now + timedelta(days=90)


def test_the_ca_signs_leaves_only(ca: FleetCA) -> None:
    """A path length of 0: whoever stole a device's key can't make a CA below ours."""
    root = x509.load_pem_x509_certificate(ca.certificate_pem)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)


def test_every_certificate_has_its_own_serial(ca: FleetCA) -> None:
    """Also of the same device and key."""
    csr = make_csr()
    issued = [ca.sign_device(csr, device_id=_DEVICE) for _ in range(5)]
    assert len({each.serial for each in issued}) == 5
    assert all(int(each.serial, 16) == _read(each).serial_number for each in issued)
    assert all(len(each.serial) <= 40 for each in issued)


def test_a_device_lifetime_can_be_chosen(folder: Path, clock: SetClock) -> None:
    """Down to seconds."""
    ca = FleetCA.load_or_create(folder, clock=clock, device_lifetime=timedelta(seconds=7))
    issued = ca.sign_device(make_csr(), device_id=_DEVICE)
    assert issued.not_after == clock.now + timedelta(seconds=7) == _read(issued).not_valid_after_utc


def test_nothing_outlives_the_ca(ca: FleetCA, clock: SetClock) -> None:
    """Near its end certificates get shorter, and after it there are none."""
    end = x509.load_pem_x509_certificate(ca.certificate_pem).not_valid_after_utc
    clock.now = end - timedelta(days=1)
    assert ca.sign_device(make_csr(), device_id=_DEVICE).not_after == end
    clock.now = end
    with pytest.raises(FailedPrecondition, match="expired"):
        ca.sign_device(make_csr(), device_id=_DEVICE)


def test_an_operator_is_the_credential_on_the_certificate(ca: FleetCA, clock: SetClock) -> None:
    """And no device."""
    issued = ca.sign_operator(make_csr(), credential_id="fedcba9876543210", lifetime=timedelta(days=2))
    peer = read_peer_certificate(issued.pem)
    assert (peer.kind, peer.id) == (PeerKind.OPERATOR, "fedcba9876543210")
    assert issued.not_after == clock.now + timedelta(days=2)
    with pytest.raises(InvalidArgument):
        ca.sign_operator(make_csr(), credential_id="x", lifetime=timedelta())


def test_the_coordinators_own_certificate_is_nobody(ca: FleetCA) -> None:
    """Nor is one that the CA never made."""
    _, pem = ca.issue_server(["localhost"])
    for wrong in (pem, ca.certificate_pem, b"", b"garbage"):
        with pytest.raises(Unauthenticated):
            read_peer_certificate(wrong)


# In TLS


@pytest.fixture
def live_ca(folder: Path) -> FleetCA:
    """A CA by the real clock, since TLS goes by that."""
    return FleetCA.load_or_create(folder, clock=lambda: datetime.now(UTC))


def _handshake(
    server_pair: tuple[bytes, bytes], client_pair: tuple[bytes, bytes], *, root: bytes, tmp_path: Path
) -> None:
    """A mutual TLS handshake in memory.

    Raises:
        ssl.SSLError: One end does not believe the other.
    """
    contexts = []
    for name, protocol, (key, certificate) in (
        ("server", ssl.PROTOCOL_TLS_SERVER, server_pair),
        ("client", ssl.PROTOCOL_TLS_CLIENT, client_pair),
    ):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(key + certificate)
        context = ssl.SSLContext(protocol)
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=root.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts[0].wrap_bio(up, down, server_side=True)
    client = contexts[1].wrap_bio(down, up, server_hostname="localhost")
    waiting = [client, server]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)


def _client_pair(ca: FleetCA) -> tuple[bytes, bytes]:
    key = make_key()
    return key_to_pem(key), ca.sign_device(make_csr(key), device_id=_DEVICE).pem


def test_device_and_coordinator_believe_each_other(live_ca: FleetCA, tmp_path: Path) -> None:
    """OpenSSL on both ends, each with the fleet CA as its only root."""
    server = live_ca.issue_server(["localhost"])
    _handshake(server, _client_pair(live_ca), root=live_ca.certificate_pem, tmp_path=tmp_path)


def test_a_device_of_another_fleet_is_refused(live_ca: FleetCA, tmp_path: Path) -> None:
    """In the handshake, before any of our code runs."""
    other = FleetCA.load_or_create(tmp_path / "other", clock=lambda: datetime.now(UTC))
    with pytest.raises(ssl.SSLError):
        _handshake(
            live_ca.issue_server(["localhost"]), _client_pair(other), root=live_ca.certificate_pem, tmp_path=tmp_path
        )


def test_a_device_cannot_pose_as_the_coordinator(live_ca: FleetCA, tmp_path: Path) -> None:
    """Its certificate is for the calling end."""
    with pytest.raises(ssl.SSLError):
        _handshake(_client_pair(live_ca), _client_pair(live_ca), root=live_ca.certificate_pem, tmp_path=tmp_path)


def test_the_ca_is_on_p256(ca: FleetCA) -> None:
    """Fast to verify on the smallest device."""
    key = x509.load_pem_x509_certificate(ca.certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    names = x509.load_pem_x509_certificate(ca.certificate_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(names[0].value).startswith("Edgeward fleet CA ")
