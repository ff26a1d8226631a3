"""The listeners, against a fleet that comes all at once."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

HANDSHAKES, AT_ONCE = 3000, 48


def test_burst_of_handshakes_leaves_the_process_alive(tmp_path: Path) -> None:
    """A fleet that comes back after an outage opens its connections at the same instant."""
    with ServerProcess(tmp_path / "data") as server:
        address = ("127.0.0.1", int(server.endpoints["port"]))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            shaken = list(pool.map(lambda _: shake_hands(address), range(HANDSHAKES)))
        assert shaken == [True] * HANDSHAKES


def shake_hands(address: tuple[str, int]) -> bool:
    """Whether a TLS handshake came to its end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(address, timeout=30) as plain, context.wrap_socket(plain) as secure:
            return secure.version() is not None
    except OSError:
        return False
