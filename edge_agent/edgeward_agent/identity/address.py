"""`host:port` and `[v6]:port`, to their parts and back."""

from __future__ import annotations

from edgeward_agent.errors import Misuse

_MAX_PORT = 65535


def split_address(address: str) -> tuple[str, int]:
    """The host, without the brackets of an IPv6 address, and the port.

    >>> split_address("[::1]:7443")
    ('::1', 7443)

    Raises:
        Misuse: Not of this form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _MAX_PORT:
        raise Misuse(f"{address[:80]!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
