"""Why there is no connection, in one sentence. Plain sockets and `ssl`, since gRPC only says UNAVAILABLE."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from edgeward_agent.errors import AgentError, Interrupted, Refused
from edgeward_agent.identity.address import split_address

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward_agent.identity import Identity

# OpenSSL's X509_V_ERR_* numbers.
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_IP = 9, 10, 62, 64

# The client's half of an HTTP/2 start: the preface and an empty SETTINGS frame (RFC 9113, 3.4).
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def diagnose_connection(
    address: str,
    *,
    fleet_ca_pem: bytes,
    now: datetime,
    identity: Identity | None = None,
    timeout_s: float = 5.0,
) -> AgentError | None:
    """Try to connect, and explain what fails; blocking.

    Args:
        address: host:port of the coordinator.
        fleet_ca_pem: Whom to trust.
        now: For what is said about expiry.
        identity: Whose certificate to show; none where the listener asks for none.
        timeout_s: Of each step.

    Returns:
        The failure, as the agent's error; None where a gRPC server answers.
    """
    host, port = split_address(address)
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            _context(fleet_ca_pem, identity).wrap_socket(plain, server_hostname=host) as connection,
        ):
            return _explain_silence(connection, address, identity, now)
    except ssl.SSLCertVerificationError as error:
        return _explain_certificate(error, address, now)
    except ssl.SSLError as error:
        return Interrupted(f"{address} answers, but the TLS handshake fails ({error.reason or error})")
    except OSError as error:
        return _explain_network(error, address, host, timeout_s)


def _context(fleet_ca_pem: bytes, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=fleet_ca_pem.decode("ascii", "replace"))
    context.set_alpn_protocols(["h2"])
    if identity is not None:
        context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


def _explain_silence(
    connection: ssl.SSLSocket, address: str, identity: Identity | None, now: datetime
) -> AgentError | None:
    """With TLS 1.3 a server refuses a client's certificate after the client's side of the handshake is done."""
    try:
        connection.sendall(_HTTP2_PREFACE)
        answered = bool(connection.recv(1))
    except OSError:
        answered = False
    if answered:
        return None
    if identity is None:
        return Interrupted(f"the coordinator at {address} hangs up after the TLS handshake")
    if identity.not_after < now:
        expired = identity.not_after.isoformat(timespec="seconds")
        return Refused(
            f"this device's certificate expired on {expired}, so the coordinator at {address} hangs up",
            hint="run edgeward-agent enroll --force with a new enrollment string",
        )
    # It may be shutting down at this very moment, so this is a matter of time.
    return Interrupted(
        f"the coordinator at {address} hangs up when it sees this device's certificate",
        hint="if it stays so, the fleet has another CA by now: run edgeward-agent enroll --force with a new string",
    )


def _explain_certificate(error: ssl.SSLCertVerificationError, address: str, now: datetime) -> AgentError:
    clock = f"by this device's clock ({now.isoformat(timespec='seconds')})"
    if error.verify_code == _EXPIRED:
        return Interrupted(f"the certificate of the coordinator at {address} has expired {clock}")
    if error.verify_code == _NOT_YET_VALID:
        return Interrupted(f"the certificate of the coordinator at {address} is not yet valid {clock}")
    if error.verify_code in (_WRONG_NAME, _WRONG_IP):
        return Refused(
            f"the coordinator at {address} is of this fleet, but its certificate is for other names",
            hint="start it with this name among its host names, or enroll with a name that it has",
        )
    return Refused(
        f"the server at {address} is not this fleet's coordinator: another certificate authority signed its certificate"
    )


def _explain_network(error: OSError, address: str, host: str, timeout_s: float) -> AgentError:
    if isinstance(error, socket.gaierror):
        return Interrupted(f"the name {host!r} can't be resolved ({error.strerror})")
    if isinstance(error, ConnectionRefusedError):
        return Interrupted(f"nothing listens at {address}: the coordinator is down, or the port is another one")
    if isinstance(error, TimeoutError):
        return Interrupted(f"{address} did not answer within {timeout_s:g} s: the network or a firewall")
    return Interrupted(f"{address} can't be reached ({error.strerror or error})")
