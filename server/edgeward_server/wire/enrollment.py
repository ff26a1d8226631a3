"""The messages of `EnrollmentService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import enrollment_pb2

if TYPE_CHECKING:
    from edgeward_coordinator.fleet import Enrolled
    from edgeward_coordinator.identity import IssuedCertificate


def enrolled_to_message(
    enrolled: Enrolled, *, ca_pem: bytes, trusted_root: bytes, device_port: int
) -> enrollment_pb2.EnrollResponse:
    """To its message."""
    return enrollment_pb2.EnrollResponse(
        device_id=enrolled.device_id,
        group=enrolled.group,
        certificate_pem=enrolled.certificate.pem,
        fleet_ca_pem=ca_pem,
        device_port=device_port,
        not_after=timestamp_from_instant(enrolled.certificate.not_after),
        trusted_root=trusted_root,
    )


def renewed_to_message(certificate: IssuedCertificate, *, ca_pem: bytes) -> enrollment_pb2.RenewResponse:
    """To its message."""
    return enrollment_pb2.RenewResponse(
        certificate_pem=certificate.pem,
        fleet_ca_pem=ca_pem,
        not_after=timestamp_from_instant(certificate.not_after),
    )
