"""Tests of `edgeward.protocol.enrollment`."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.enrollment import EnrollmentString, format_enrollment_string, parse_enrollment_string
from tests.protocol.damage import damaged
from tests.protocol.strategies import DIGESTS, TEXT

PARTS = EnrollmentString(address="coordinator.example:7443", ca_fingerprint="ab" * 32, secret="ewe_secret")
HOSTS = st.sampled_from(["localhost", "10.0.0.1", "[::1]", "edge-1.fleet.example"])


def pasted(value: object) -> str:
    """A string with a sound wrapping around any JSON value."""
    return "ew1." + base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(HOSTS, st.integers(0, 65535), DIGESTS, TEXT)
def test_round_trip(host: str, port: int, fingerprint: str, secret: str) -> None:
    """What was printed can be pasted, with spaces and a line's end around it."""
    parts = EnrollmentString(address=f"{host}:{port}", ca_fingerprint=fingerprint, secret=secret)
    assert parse_enrollment_string(f"  {format_enrollment_string(parts)}\n") == parts


def test_is_one_word() -> None:
    """A double click and a shell both take it whole."""
    assert format_enrollment_string(PARTS).replace(".", "").replace("-", "").replace("_", "").isalnum()


@given(
    st.text(max_size=100)
    | st.text(max_size=100).map(lambda text: f"ew1.{text}")
    | st.binary(max_size=100).map(lambda data: "ew1." + base64.urlsafe_b64encode(data).decode())
    | damaged([format_enrollment_string(PARTS).encode()]).map(lambda data: data.decode("latin-1"))
    | st.recursive(TEXT | st.integers() | st.none(), st.lists, max_leaves=5).map(pasted)
)
def test_arbitrary_text_raises_only_the_wire_error(text: str) -> None:
    """A decoder raises WireError or gives the parts, whatever was pasted."""
    try:
        parse_enrollment_string(text)
    except WireError:
        return


@given(st.integers(1, 60))
def test_cut_off_is_told(length: int) -> None:
    """A string that lost its end is named as such."""
    with pytest.raises(WireError, match=r"damaged|digest"):
        parse_enrollment_string(format_enrollment_string(PARTS)[:-length])


@pytest.mark.parametrize(
    "address", ["no-port", ":1", "host:port", "host:70000", "a b:1", "host:\uff11", "https://host:1/"]
)
def test_address_is_checked(address: str) -> None:
    """What is no host:port is refused before anybody connects to it."""
    with pytest.raises(WireError, match="host:port"):
        parse_enrollment_string(pasted([address, "ab" * 32, "secret"]))


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    """JSON that nests past the parser's stack is damaged too."""
    text = "ew1." + base64.urlsafe_b64encode(b"[" * 1400).decode().rstrip("=")
    with pytest.raises(WireError, match="damaged"):
        parse_enrollment_string(text)
