"""The first connection: learn the fleet CA from the server and check it against a fingerprint.

A client that knows nothing yet does one TLS handshake without verification,
only to read the certificates that the server presents (its own, then the fleet
CA). Nothing is sent in it. The CA whose SHA-256 equals the fingerprint becomes
the root of every later connection, and those verify the chain and the name: so
a man in the middle can present the right CA here and gains nothing by it.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, cast

from edgeward_server.client.errors import Unreachable, Untrusted

if TYPE_CHECKING:
    from edgeward_server.client.addresses import Address

_TIMEOUT_S = 10.0


def fetch_presented_certificates(address: Address, *, timeout_s: float = _TIMEOUT_S) -> list[bytes]:
    """The certificates (DER) that a server presents, its own first; not verified in any way.

    Raises:
        Unreachable: Nobody answers, or not with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secure,
        ):
            return _unverified_chain(secure)
    except ssl.SSLError as error:
        raise Unreachable(f"{address} answers, but not with TLS", hint="is this the coordinator's port?") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unreachable(f"no coordinator answers at {address} ({reason})", hint="check the address") from error


def find_fleet_ca(chain: list[bytes], fingerprint: str) -> str:
    """The certificate of the chain that has this fingerprint, in PEM.

    Args:
        chain: Certificates in DER.
        fingerprint: SHA-256 of the fleet CA's DER, hexadecimal; colons and case do not matter.

    Raises:
        Untrusted: None has it.
    """
    wanted = fingerprint.replace(":", "").lower()
    for certificate in chain:
        if fingerprint_of(certificate) == wanted:
            return ssl.DER_cert_to_PEM_cert(certificate)
    presented = fingerprint_of(chain[-1]) if chain else "nothing"
    raise Untrusted(
        f"the server presents a fleet CA with fingerprint {presented}, expected {wanted}",
        hint="compare with what the server printed at its start; if it is right, someone is in between",
    )


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()


def _unverified_chain(secure: ssl.SSLSocket) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return list(secure.get_unverified_chain())
    # Public since Python 3.13 only; the object below has had it since 3.10.
    inner = cast("Any", secure)._sslobj  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner.get_unverified_chain() or ()]
