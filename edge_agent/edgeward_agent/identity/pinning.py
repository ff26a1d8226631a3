"""Find the fleet's CA from nothing but its fingerprint, before a word of the token is said.

The server's chain holds its leaf and the CA. The handshake here verifies
nothing, and nothing is sent over it: it only collects certificates, which are
public. Whoever sits in between can offer any chain, but not another CA with the
pinned SHA-256. The CA found so is then the only root of the connection that the
token travels on, and that connection checks the server's key and its name.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
from typing import TYPE_CHECKING

from edgeward_agent.errors import Interrupted, Refused
from edgeward_agent.identity.address import split_address

if TYPE_CHECKING:
    from collections.abc import Iterable


def fetch_pinned_ca(address: str, fingerprint: str, *, timeout_s: float = 10.0) -> bytes:
    """The certificate whose SHA-256 (of its DER) is `fingerprint`, out of the chain that `address` presents.

    Returns:
        PEM.

    Raises:
        Interrupted: Nothing answers there.
        Refused: No certificate of that fingerprint: another fleet's coordinator, or someone in between.
    """
    chain = _presented_chain(address, timeout_s=timeout_s)
    found = find_pinned(chain, fingerprint)
    if found is None:
        presented = hashlib.sha256(chain[-1]).hexdigest() if chain else "nothing"
        raise Refused(
            f"the server at {address} does not belong to the fleet of this enrollment string: its certificate "
            f"authority is {presented[:16]}…, expected {fingerprint[:16]}…; the token was not sent",
            hint="check the address with whoever gave you the string",
        )
    return ssl.DER_cert_to_PEM_cert(found).encode()


def find_pinned(chain: Iterable[bytes], fingerprint: str) -> bytes | None:
    """The certificate (DER) of that fingerprint."""
    return next((der for der in chain if hashlib.sha256(der).hexdigest() == fingerprint), None)


def _presented_chain(address: str, *, timeout_s: float) -> list[bytes]:
    host, port = split_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # see the module's docstring: the fingerprint verifies
    context.set_alpn_protocols(["h2"])  # a gRPC server hangs up on a client that does not speak HTTP/2
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            return _chain_of(connection)
    except ssl.SSLError as error:
        raise Refused(f"{address} answers, but not with TLS ({error.reason or error})") from error
    except OSError as error:
        raise Interrupted(
            f"no coordinator answers at {address} ({error})", hint="check the address, the port and the network"
        ) from error


def _chain_of(connection: ssl.SSLSocket) -> list[bytes]:
    """The chain as the server sent it, DER."""
    if sys.version_info >= (3, 13):
        return connection.get_unverified_chain()
    # Public since 3.13. In 3.11 and 3.12, which get no new features, the same method is there behind `_sslobj`;
    # the alternatives are another TLS library for one handshake, or the whole CA in the string to paste.
    certificates = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    der = 2  # _ssl.ENCODING_DER
    return [certificate.public_bytes(der) for certificate in certificates]
