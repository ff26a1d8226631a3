"""Certificate requests of strangers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.identity import parse_csr
from tests.csr import make_csr, make_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

_VALID = make_csr()
_DER = x509.load_pem_x509_csr(_VALID).public_bytes(Encoding.DER)


def _armored(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


def test_a_request_for_a_p256_key_is_read() -> None:
    """Its key is the asker's, and the same key has the same fingerprint whatever else the request says."""
    key = make_key()
    one, other = parse_csr(make_csr(key, common_name="a")), parse_csr(make_csr(key, common_name="b"))
    assert one.public_key == key.public_key()
    assert one.key_fingerprint == other.key_fingerprint != parse_csr(_VALID).key_fingerprint


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.generate_private_key(65537, 2048), id="rsa"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="p384"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
    ],
)
def test_another_kind_of_key_is_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    """Only what every device's TLS can do, and no more."""
    with pytest.raises(InvalidArgument, match="P-256"):
        parse_csr(make_csr(key))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    """Somebody may not have another's key certified."""
    mine, foreign = bytearray(_DER), x509.load_pem_x509_csr(make_csr()).public_bytes(Encoding.DER)
    signature = x509.load_der_x509_csr(foreign).signature
    assert len(signature) <= 72
    mine[-8:] = signature[-8:]
    with pytest.raises(InvalidArgument, match="signed by its own key"):
        parse_csr(_armored(bytes(mine)))


def test_a_request_without_end_is_not_read() -> None:
    """The bound comes before any parsing."""
    with pytest.raises(InvalidArgument, match="at most 8192"):
        parse_csr(_VALID + b" " * 8192)


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    """With the one error."""
    with pytest.raises(InvalidArgument):
        parse_csr(data)


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_in_armor_are_refused(data: bytes) -> None:
    """With the one error."""
    with pytest.raises(InvalidArgument):
        parse_csr(_armored(data))


@given(st.integers(0, len(_DER) - 1), st.integers(0, 255), st.booleans())
def test_a_damaged_request_is_refused_or_read(position: int, value: int, cut: bool) -> None:  # noqa: FBT001
    """Any byte altered or everything after it lost: the one error, or, where nothing was altered, the same key."""
    damaged = _DER[:position] if cut else _DER[:position] + bytes([value]) + _DER[position + 1 :]
    if damaged == _DER:
        assert parse_csr(_armored(damaged)) == parse_csr(_VALID)
        return
    with pytest.raises(InvalidArgument):
        parse_csr(_armored(damaged))
