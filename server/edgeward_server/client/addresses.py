"""Addresses as people write them: `host`, `host:port`, `[::1]:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPERATOR_PORT = 7443
DEVICE_PORT = 7444

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-_]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host` without brackets where it is an IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int = OPERATOR_PORT) -> Address:
    """From what was typed.

    >>> str(parse_address("edge.example.org"))
    'edge.example.org:7443'

    Raises:
        ValueError: No host, or a port that is none.
    """
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(default_port)
    if _HOST.fullmatch(host) is None or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{text[:80]!r} is no address; write HOST or HOST:PORT")
    return Address(host=host.strip("[]"), port=int(port))
