"""The fleet CA on disk: `ca-key.pem` (0600), `ca.pem`, and the coordinator's own `server.pem` (0600).

The key is durable before the certificate over it exists, and the certificate
before anything is signed: so a crash at any point leaves nothing that was
handed out and can't be recognised again. A key without a certificate is
completed; a certificate without its key is never replaced, because every device
trusts it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from edgeward.durable import fsync_folder, write_atomic
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_coordinator.identity.issuing import (
    DEVICE_ORGANIZATION,
    OPERATOR_ORGANIZATION,
    IssuedCertificate,
    Issuer,
    issue_client,
    issue_server,
    names_of,
    self_sign_ca,
)
from edgeward_coordinator.identity.signing_request import parse_csr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

DEVICE_LIFETIME = timedelta(days=90)

# What cryptography raises for bytes that are not what they should be.
_DAMAGE = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion)

_CA_LIFETIME = timedelta(days=20 * 365)
_SERVER_LIFETIME = timedelta(days=825)

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)


class FleetCA:
    """Signs who belongs to the fleet. Thread-safe; open it with `load_or_create`."""

    def __init__(
        self, issuer: Issuer, *, folder: Path, clock: Callable[[], datetime], device_lifetime: timedelta
    ) -> None:
        self._issuer = issuer
        self._folder = folder
        self._clock = clock
        self._device_lifetime = device_lifetime

    @classmethod
    def load_or_create(
        cls, folder: Path, *, clock: Callable[[], datetime], device_lifetime: timedelta = DEVICE_LIFETIME
    ) -> Self:
        """Open the CA of a folder, or make it at the first start.

        Args:
            folder: Where its files lie; made where it is missing.
            clock: The instant now, aware UTC.
            device_lifetime: For how long a device's certificate is good.

        Raises:
            FailedPrecondition: Its files are damaged, or one is missing that can't be made again.
        """
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            fsync_folder(folder.parent)
        key = _load_or_create_key(folder)
        certificate = _load_or_create_certificate(folder, key, now=clock())
        issuer = Issuer(key=key, certificate=certificate)
        return cls(issuer, folder=folder, clock=clock, device_lifetime=device_lifetime)

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate: whom devices trust as a coordinator."""
        return self._issuer.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate in DER, hexadecimal."""
        return hashlib.sha256(self._issuer.certificate.public_bytes(Encoding.DER)).hexdigest()

    def sign_device(self, csr_pem: bytes, *, device_id: str) -> IssuedCertificate:
        """A certificate for a device.

        Raises:
            InvalidArgument: The request is none, or not for a P-256 key that the asker holds.
        """
        return issue_client(
            self._issuer,
            parse_csr(csr_pem).public_key,
            organization=DEVICE_ORGANIZATION,
            common_name=device_id,
            now=self._clock(),
            lifetime=self._device_lifetime,
        )

    def sign_operator(self, csr_pem: bytes, *, credential_id: str, lifetime: timedelta) -> IssuedCertificate:
        """A certificate for an operator; it opens nothing until its serial is registered.

        Raises:
            InvalidArgument: The request is none, or the lifetime is not positive.
        """
        if lifetime <= timedelta():
            raise InvalidArgument(f"a lifetime of {lifetime} is no lifetime", hint="give a positive one")
        return issue_client(
            self._issuer,
            parse_csr(csr_pem).public_key,
            organization=OPERATOR_ORGANIZATION,
            common_name=credential_id,
            now=self._clock(),
            lifetime=lifetime,
        )

    def issue_server(self, names: Sequence[str]) -> tuple[bytes, bytes]:
        """The coordinator's own key and certificate; kept while the names are the same and a third of its life is left.

        Args:
            names: The DNS names and IP addresses under which it is reached, at least one.

        Returns:
            The key and the certificate, in PEM.

        Raises:
            InvalidArgument: A name is neither of the two.
            FailedPrecondition: The CA has expired.
        """
        wanted = [_canonical_name(name) for name in names]
        if not wanted:
            raise InvalidArgument("the coordinator's certificate needs a name", hint="give a DNS name or an IP address")
        path = self._folder / "server.pem"
        kept = path.read_bytes() if path.exists() else b""
        if not kept or not self._is_good(kept, set(wanted)):
            key = ec.generate_private_key(ec.SECP256R1())
            issued = issue_server(
                self._issuer,
                key.public_key(),
                names=list(dict.fromkeys(wanted)),
                now=self._clock(),
                lifetime=_SERVER_LIFETIME,
            )
            kept = _key_pem(key) + issued.pem
            # Both in one file, so that no crash can part them.
            write_atomic(path, kept, mode=0o600)
        key_pem, marker, certificate_pem = kept.partition(b"-----BEGIN CERTIFICATE-----")
        return key_pem, marker + certificate_pem

    def _is_good(self, pem: bytes, names: set[str]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            key = load_pem_private_key(pem, password=None)
            certificate.verify_directly_issued_by(self._issuer.certificate)
            left = certificate.not_valid_after_utc - self._clock()
            return (
                names_of(certificate) == names
                and left > _SERVER_LIFETIME / 3
                and key.public_key() == certificate.public_key()
            )
        except (*_DAMAGE, x509.ExtensionNotFound):
            return False  # whatever is wrong with the file, a new one mends it


def _load_or_create_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / "ca-key.pem"
    if not path.exists():
        if (folder / "ca.pem").exists():
            raise FailedPrecondition(
                f"the fleet CA's key {path} is missing", hint="put it back from a backup: devices trust no other"
            )
        write_atomic(path, _key_pem(ec.generate_private_key(ec.SECP256R1())), mode=0o600)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except _DAMAGE as error:
        raise FailedPrecondition(f"the fleet CA's key {path} is damaged", hint="put it back from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FailedPrecondition(f"the fleet CA's key {path} is of another kind", hint="put back a key on a curve")
    return key


def _load_or_create_certificate(folder: Path, key: ec.EllipticCurvePrivateKey, *, now: datetime) -> x509.Certificate:
    path = folder / "ca.pem"
    if not path.exists():
        made = self_sign_ca(key, now=now, lifetime=_CA_LIFETIME)
        write_atomic(path, made.public_bytes(Encoding.PEM))
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(certificate)
        matches = certificate.public_key() == key.public_key()
    except _DAMAGE as error:
        raise FailedPrecondition(
            f"the fleet CA's certificate {path} is damaged", hint="put it back from a backup, or from any device"
        ) from error
    if not matches:
        raise FailedPrecondition(
            f"the fleet CA's certificate {path} is not of the key beside it", hint="put both back from one backup"
        )
    return certificate


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _canonical_name(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _DNS_NAME.fullmatch(name) is None:
        raise InvalidArgument(f"{name[:80]!r} is neither a DNS name nor an IP address")
    return name.lower()
