"""Whom a client certificate is of, after TLS has verified that the fleet CA signed it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from edgeward_coordinator.errors import Unauthenticated
from edgeward_coordinator.identity.issuing import DEVICE_ORGANIZATION, OPERATOR_ORGANIZATION, serial_of

if TYPE_CHECKING:
    from datetime import datetime


class PeerKind(StrEnum):
    """Who comes by certificate."""

    DEVICE = "device"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """`id` is the device's, or the operator's credential's; `serial` is lower-case hexadecimal."""

    kind: PeerKind
    id: str
    serial: str
    not_after: datetime


_KINDS = {DEVICE_ORGANIZATION: PeerKind.DEVICE, OPERATOR_ORGANIZATION: PeerKind.OPERATOR}


def read_peer_certificate(pem: bytes) -> PeerCertificate:
    """Read who a verified certificate is of.

    Raises:
        Unauthenticated: It is of neither a device nor an operator.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        subject = {attribute.oid: str(attribute.value) for attribute in certificate.subject}
        kind = _KINDS[subject[NameOID.ORGANIZATION_NAME]]
        return PeerCertificate(
            kind=kind,
            id=subject[NameOID.COMMON_NAME],
            serial=serial_of(certificate),
            not_after=certificate.not_valid_after_utc,
        )
    except (ValueError, KeyError, x509.InvalidVersion) as error:
        raise Unauthenticated("the client certificate is of neither a device nor an operator") from error
