"""An operator's key, the request to have it certified, and whether the two files belong together."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_request(name: str) -> tuple[bytes, bytes]:
    """A new P-256 key and a signing request for it, both in PEM.

    Args:
        name: Goes into the request for people to read; the coordinator decides what the certificate says.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, request.public_bytes(serialization.Encoding.PEM)


def verify_pair(certificate_pem: bytes, key_pem: bytes) -> None:
    """Check what would otherwise fail deep inside TLS.

    Raises:
        ValueError: One of them is not what it should be, or they don't belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise ValueError("the certificate is no certificate in PEM") from error
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is no private key in PEM without a password") from error
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not the certificate's")
