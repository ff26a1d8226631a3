"""How a device becomes a member of the fleet and stays one.

`Enroll` is open to everybody who reaches the port: what it is given is bounded
by the domain before anything is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from edgeward.v1 import enrollment_pb2, enrollment_pb2_grpc
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.enrollment import enrolled_to_message, renewed_to_message

if TYPE_CHECKING:
    from typing import Any

    import grpc

    from edgeward_coordinator.fleet import Fleet
    from edgeward_coordinator.identity import FleetCA
    from edgeward_coordinator.trust import Trust
    from edgeward_server.sessions import SessionHub

    Context = grpc.aio.ServicerContext[Any, Any]

_LOG = structlog.stdlib.get_logger(__name__)


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Certificates for devices.

    Args:
        fleet: Knows tokens and devices.
        ca: Whose certificate devices are to trust.
        trust: Whose root of trust in artifacts they are to start from.
        hub: Tells those who watch the fleet.
        device_port: Of the listener that devices come to from then on.
    """

    def __init__(self, *, fleet: Fleet, ca: FleetCA, trust: Trust, hub: SessionHub, device_port: int) -> None:
        self._fleet = fleet
        self._ca = ca
        self._trust = trust
        self._hub = hub
        self._device_port = device_port

    async def Enroll(self, request: enrollment_pb2.EnrollRequest, context: Context) -> enrollment_pb2.EnrollResponse:
        """Spend one use of a token."""
        enrolled = await in_thread(
            self._fleet.enroll,
            secret=request.token,
            csr_pem=request.csr_pem,
            name=request.device_name,
            labels=dict(request.labels),
        )
        _LOG.info("device enrolled", device=enrolled.device_id, name=request.device_name, group=enrolled.group)
        self._hub.changed()
        root = await in_thread(self._trust.root)
        return enrolled_to_message(
            enrolled, ca_pem=self._ca.certificate_pem, trusted_root=root, device_port=self._device_port
        )

    async def Renew(self, request: enrollment_pb2.RenewRequest, context: Context) -> enrollment_pb2.RenewResponse:
        """A new certificate for the device that calls."""
        device = current_caller().require_device()
        certificate = await in_thread(self._fleet.renew, device.id, request.csr_pem)
        return renewed_to_message(certificate, ca_pem=self._ca.certificate_pem)
