"""Devices and operators for the server's tests: keys, certificate requests, hellos."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeward.protocol.state import Hello, Inventory, ReportedState

if TYPE_CHECKING:
    from edgeward_coordinator.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAndRequest:
    """A fresh P-256 key, and a request for a certificate over it; both PEM."""

    key_pem: bytes
    csr_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An enrolled device, or an operator with a certificate; PEM."""

    id: str
    key_pem: bytes
    certificate_pem: bytes
    group: str = ""


def new_key() -> KeyAndRequest:
    """What a device makes before it enrolls."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return KeyAndRequest(
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        csr_pem=request.public_bytes(Encoding.PEM),
    )


def enroll_in(fleet: Fleet, *, group: str = "lab", name: str = "pi") -> Member:
    """A new device, by the domain's own way."""
    _, secret = fleet.create_enrollment_token(group=group, uses=1, expires_in=timedelta(hours=1), actor="test")
    made = new_key()
    enrolled = fleet.enroll(secret=secret, csr_pem=made.csr_pem, name=name, labels={})
    return Member(id=enrolled.device_id, group=group, key_pem=made.key_pem, certificate_pem=enrolled.certificate.pem)


def hello(*, generation: int = 0) -> Hello:
    """The first words of a small device."""
    inventory = Inventory(
        agent_version="0.1.0",
        architecture="x86_64",
        system="Linux",
        python="3.11",
        cores=2,
        memory_bytes=1 << 30,
        runtimes=(),
        can_train=False,
    )
    return Hello(
        inventory=inventory, labels={}, reported=ReportedState(generation=generation, models=()), outbox_records=0
    )
