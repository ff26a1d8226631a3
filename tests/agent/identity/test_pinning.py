"""Finding the fleet's CA by its fingerprint alone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from edgeward_agent.errors import Interrupted, Misuse, Refused
from edgeward_agent.identity import fetch_pinned_ca, split_address
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator


async def test_pinned_ca_comes_out_of_the_presented_chain() -> None:
    """The PEM that is returned is the CA's own, though the handshake verified nothing."""
    async with SimulatedCoordinator() as coordinator:
        found = await asyncio.to_thread(fetch_pinned_ca, coordinator.address, coordinator.ca.fingerprint)
    assert found == coordinator.ca.certificate_pem


async def test_another_fingerprint_is_refused_with_both_in_the_message() -> None:
    """The operator sees what was expected and what is there, and that the token stayed."""
    other = SimulatedCA()
    async with SimulatedCoordinator() as coordinator:
        with pytest.raises(Refused, match="the token was not sent") as caught:
            await asyncio.to_thread(fetch_pinned_ca, coordinator.address, other.fingerprint)
    assert other.fingerprint[:16] in str(caught.value)
    assert coordinator.ca.fingerprint[:16] in str(caught.value)


def test_nobody_listening_is_a_matter_of_time() -> None:
    """A coordinator that is down is not a wrong one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Interrupted, match=f"no coordinator answers at {address}"):
            fetch_pinned_ca(address, "0" * 64)


def test_a_server_without_tls_is_refused() -> None:
    """Whatever listens there is no coordinator."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        address = f"127.0.0.1:{plain.getsockname()[1]}"

        def answer_in_clear() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        import threading

        thread = threading.Thread(target=answer_in_clear)
        thread.start()
        try:
            with pytest.raises(Refused, match="not with TLS"):
                fetch_pinned_ca(address, "0" * 64)
        finally:
            thread.join(10)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("coordinator.local:7443", ("coordinator.local", 7443)), ("[fe80::1]:1", ("fe80::1", 1))],
    ids=["name", "IPv6"],
)
def test_address_splits(text: str, parts: tuple[str, int]) -> None:
    """Host and port, the brackets gone."""
    assert split_address(text) == parts


@pytest.mark.parametrize("text", ["", "host", "host:", ":7443", "host:0", "host:65536", "host:ten", "host:²"])
def test_address_without_host_and_port_is_misuse(text: str) -> None:
    """Each with the text in the message."""
    with pytest.raises(Misuse, match="is not HOST:PORT"):
        split_address(text)
