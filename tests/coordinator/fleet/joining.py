"""How the tests' devices join a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.csr import make_csr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward_coordinator.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A device that has enrolled."""

    id: str
    serial: str


def make_token(fleet: Fleet, *, group: str = "lab", uses: int = 1, expires_in: timedelta = timedelta(hours=1)) -> str:
    """A token's secret."""
    return fleet.create_enrollment_token(group=group, uses=uses, expires_in=expires_in, actor="alice")[1]


def join(fleet: Fleet, name: str = "edge-1", *, group: str = "lab", labels: Mapping[str, str] | None = None) -> Joined:
    """Enroll a new device with a token of its own."""
    secret = make_token(fleet, group=group)
    enrolled = fleet.enroll(secret=secret, csr_pem=make_csr(), name=name, labels=labels or {})
    return Joined(id=enrolled.device_id, serial=enrolled.certificate.serial)
