"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward_server.client import parse_address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("edge.example.org", "edge.example.org:7443"),
        ("10.0.0.1:9", "10.0.0.1:9"),
        ("[::1]", "[::1]:7443"),
        ("[fe80::1]:65535", "[fe80::1]:65535"),
    ],
)
def test_the_port_may_be_left_out(text: str, shown: str) -> None:
    """IPv6 addresses stand in brackets."""
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize("text", ["", ":7443", "host:", "host:0", "host:65536", "host:x", "::1", "a b", "http://host"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@given(st.text(max_size=60))
def test_an_address_reads_back_as_itself(text: str) -> None:
    """Any text is refused, or has one form."""
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
