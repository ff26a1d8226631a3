"""Certificate signing requests (PKCS #10) of strangers: of one, only the public key is believed.

The subject, the extensions and the attributes of a request are ignored: what a
certificate says is decided by the coordinator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgeward_coordinator.errors import InvalidArgument

# One of a P-256 key takes about 500 bytes.
MAX_CSR_BYTES = 8192

_HINT = "send a PEM certificate request for a P-256 key"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """Somebody who proved that they hold the private key asks for a certificate.

    Attributes:
        public_key: On P-256.
        key_fingerprint: SHA-256 of its SubjectPublicKeyInfo in DER, hexadecimal.
    """

    public_key: ec.EllipticCurvePublicKey
    key_fingerprint: str


def parse_csr(csr_pem: bytes) -> CertificateRequest:
    """Read and verify a request.

    Raises:
        InvalidArgument: Too long, no PKCS #10 in PEM, not for a P-256 key, or not signed by that key.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise InvalidArgument(
            f"a certificate request of {len(csr_pem)} bytes; at most {MAX_CSR_BYTES} are read", hint=_HINT
        )
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        # The kind of key first: verifying under a huge RSA key costs much.
        is_right_kind = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        is_signed = is_right_kind and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidArgument("the certificate request can't be read", hint=_HINT) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not is_right_kind:
        raise InvalidArgument("the certificate request is not for a P-256 key", hint=_HINT)
    if not is_signed:
        raise InvalidArgument("the certificate request is not signed by its own key", hint=_HINT)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return CertificateRequest(public_key=key, key_fingerprint=hashlib.sha256(der).hexdigest())
