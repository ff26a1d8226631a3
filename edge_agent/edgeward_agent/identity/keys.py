"""The device's key and the request to certify it: P-256, made here, never sent."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

_MAX_NAME = 64  # X.520's bound of a common name


def make_key() -> bytes:
    """A new private key, PKCS #8 PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_csr(key_pem: bytes, *, name: str) -> bytes:
    """A signing request for the key, PEM; `name` is for people, the CA writes the device's id."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MAX_NAME] or "device")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_load(key_pem), hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def is_certificate_of(certificate: x509.Certificate, key_pem: bytes) -> bool:
    """Whether the certificate is for this key."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == _load(key_pem).public_key().public_bytes(*form)


def _load(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an elliptic-curve key")  # noqa: TRY004 (a value read from disk, not an argument's type)
    return key
