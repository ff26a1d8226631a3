"""Certificates as this fleet makes them (RFC 5280): pure, given keys and the instant.

Certificates start five minutes before they are made, for devices whose clock is
a little slow (a tenth of their life where that is less, or renewal at two thirds
of it would be due at once). A leaf's extended key usage says which end of TLS it is for, so
that a device's certificate can't pose as the coordinator.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeward_coordinator.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

DEVICE_ORGANIZATION = "edgeward device"
OPERATOR_ORGANIZATION = "edgeward operator"
COORDINATOR_ORGANIZATION = "edgeward coordinator"

_BACKDATED_BY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate, with what is remembered of it; `serial` is lower-case hexadecimal."""

    pem: bytes
    serial: str
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The CA's key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def self_sign_ca(key: ec.EllipticCurvePrivateKey, *, now: datetime, lifetime: timedelta) -> x509.Certificate:
    """The CA's own certificate: it may sign leaves, and no further CA (path length 0)."""
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The key's id in the name keeps two fleets apart in error messages and in TLS's choice of a CA.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Edgeward fleet CA {key_id.digest.hex()[:8]}")])
    return (
        _builder(subject=name, issuer=name, public_key=key.public_key(), now=now, not_after=now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, SHA256())
    )


def issue_client(
    issuer: Issuer,
    public_key: ec.EllipticCurvePublicKey,
    *,
    organization: str,
    common_name: str,
    now: datetime,
    lifetime: timedelta,
) -> IssuedCertificate:
    """A certificate for the calling end: a device or an operator."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = _leaf(issuer, subject, public_key, usage=ExtendedKeyUsageOID.CLIENT_AUTH, now=now, lifetime=lifetime)
    return _sign(issuer, builder)


def issue_server(
    issuer: Issuer,
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[str],
    now: datetime,
    lifetime: timedelta,
) -> IssuedCertificate:
    """A certificate for the coordinator, good for these DNS names and IP addresses."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, COORDINATOR_ORGANIZATION)])
    builder = _leaf(
        issuer, subject, public_key, usage=ExtendedKeyUsageOID.SERVER_AUTH, now=now, lifetime=lifetime
    ).add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
    return _sign(issuer, builder)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as it is stored and compared."""
    return format(certificate.serial_number, "x")


def names_of(certificate: x509.Certificate) -> set[str]:
    """The DNS names and IP addresses that a server's certificate is good for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)}


def _leaf(
    issuer: Issuer,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    usage: x509.ObjectIdentifier,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    issuer_end = issuer.certificate.not_valid_after_utc
    if now >= issuer_end:
        raise FailedPrecondition(
            f"the fleet CA expired at {issuer_end:%Y-%m-%d} and can sign nothing any more",
            hint="make a new CA and enroll the devices again",
        )
    issuer_key_id = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(
            subject=subject,
            issuer=issuer.certificate.subject,
            public_key=public_key,
            now=now,
            not_after=min(now + lifetime, issuer_end),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False)
    )


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - min(_BACKDATED_BY, (not_after - now) / 10)).replace(microsecond=0))
        .not_valid_after(not_after.replace(microsecond=0))
    )


def _sign(issuer: Issuer, builder: x509.CertificateBuilder) -> IssuedCertificate:
    certificate = builder.sign(issuer.key, SHA256())
    return IssuedCertificate(
        pem=certificate.public_bytes(Encoding.PEM),
        serial=serial_of(certificate),
        not_after=certificate.not_valid_after_utc,
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
