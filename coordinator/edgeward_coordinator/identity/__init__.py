"""The fleet CA: who is a device, who is the coordinator, which operators come by certificate."""

from edgeward_coordinator.identity.authority import FleetCA
from edgeward_coordinator.identity.issuing import IssuedCertificate
from edgeward_coordinator.identity.opening import open_fleet_ca
from edgeward_coordinator.identity.peer import PeerCertificate, PeerKind, read_peer_certificate
from edgeward_coordinator.identity.signing_request import CertificateRequest, parse_csr

__all__ = [
    "CertificateRequest",
    "FleetCA",
    "IssuedCertificate",
    "PeerCertificate",
    "PeerKind",
    "open_fleet_ca",
    "parse_csr",
    "read_peer_certificate",
]
