"""The fleet, for operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import fleet_pb2, fleet_pb2_grpc
from edgeward_coordinator.fleet import state_of
from edgeward_server.callers import current_caller
from edgeward_server.threads import in_thread
from edgeward_server.wire.durations import duration_from_seconds
from edgeward_server.wire.fleet import details_to_message, device_to_message, pages_of, parse_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Set
    from typing import Any

    import grpc

    from edgeward_coordinator.fleet import DeviceRecord, Fleet
    from edgeward_coordinator.identity import FleetCA
    from edgeward_coordinator.monitoring import Telemetry
    from edgeward_server.sessions import SessionHub

    Context = grpc.aio.ServicerContext[Any, Any]

_EVENTS = 50
_REVOKED = "this device was revoked"

# A watch looks at most this often, and leaves a large fleet, whose list takes long to make, longer alone.
_LOOKS_APART_S = 0.5
_REST_RATIO = 4
# What other coordinators change is not announced here: so a watch looks at least this often.
_LOOK_AGAIN_S = 2.0


class FleetServicer(fleet_pb2_grpc.FleetServiceServicer):
    """Devices: listed, watched, changed, revoked."""

    def __init__(self, *, fleet: Fleet, telemetry: Telemetry, hub: SessionHub, ca: FleetCA) -> None:
        self._fleet = fleet
        self._telemetry = telemetry
        self._hub = hub
        self._ca = ca

    async def CreateEnrollmentToken(
        self, request: fleet_pb2.CreateEnrollmentTokenRequest, context: Context
    ) -> fleet_pb2.CreateEnrollmentTokenResponse:
        """A token for new devices, with the fingerprint by which they know the coordinator."""
        token, secret = await in_thread(
            self._fleet.create_enrollment_token,
            group=request.group,
            uses=request.uses,
            expires_in=duration_from_seconds(request.expires_in_s),
            actor=current_caller().require_principal().name,
        )
        return fleet_pb2.CreateEnrollmentTokenResponse(
            id=token.id,
            secret=secret,
            ca_fingerprint=self._ca.fingerprint,
            expires_at=timestamp_from_instant(token.expires_at),
        )

    async def ListDevices(
        self, request: fleet_pb2.ListDevicesRequest, context: Context
    ) -> fleet_pb2.ListDevicesResponse:
        """A page of the devices by name."""
        devices = await in_thread(self._list, request, self._hub.online())
        return next(pages_of(devices, after=request.page))

    async def GetDevice(self, request: fleet_pb2.GetDeviceRequest, context: Context) -> fleet_pb2.GetDeviceResponse:
        """All that is known of one device."""
        return await in_thread(self._describe, request.device, self._hub.online())

    async def WatchDevices(
        self, request: fleet_pb2.ListDevicesRequest, context: Context
    ) -> AsyncIterator[fleet_pb2.ListDevicesResponse]:
        """The devices now, then again whenever something in the list has changed."""
        loop = asyncio.get_running_loop()
        shown: list[fleet_pb2.Device] | None = None
        seen = -1
        while True:
            seen = await self._hub.wait_for_change(seen, timeout_s=_LOOK_AGAIN_S)
            started_s = loop.time()
            devices = await in_thread(self._list, request, self._hub.online())
            if devices != shown:
                for page in pages_of(devices, after=""):
                    yield page
                shown = devices
            await asyncio.sleep(max(_LOOKS_APART_S, _REST_RATIO * (loop.time() - started_s)))

    async def RevokeDevice(
        self, request: fleet_pb2.RevokeDeviceRequest, context: Context
    ) -> fleet_pb2.RevokeDeviceResponse:
        """Take a device out of the fleet, and out of whatever it does at this moment."""
        device_id = await in_thread(
            self._fleet.revoke,
            request.device,
            reason=request.reason,
            actor=current_caller().require_principal().name,
        )
        self._hub.cut(device_id, _REVOKED)
        self._hub.changed()
        return fleet_pb2.RevokeDeviceResponse(device_id=device_id)

    async def UpdateDevice(
        self, request: fleet_pb2.UpdateDeviceRequest, context: Context
    ) -> fleet_pb2.UpdateDeviceResponse:
        """Change a device's group or labels."""
        updated = await in_thread(
            self._fleet.update,
            request.device,
            group=request.group or None,
            set_labels=dict(request.set_labels),
            actor=current_caller().require_principal().name,
        )
        self._hub.desired_changed()
        device = await in_thread(self._to_message, updated, self._hub.online())
        return fleet_pb2.UpdateDeviceResponse(device=device)

    def _list(self, request: fleet_pb2.ListDevicesRequest, online: Set[str]) -> list[fleet_pb2.Device]:
        wanted = parse_state(request.state)
        devices = [
            (device, state)
            for device in self._fleet.list_devices(group=request.group, labels=dict(request.labels))
            if (state := state_of(device, online=online)) == (wanted or state)
        ]
        totals = self._telemetry.fleet_totals([device.id for device, _ in devices])
        return [device_to_message(device, state=state, totals=totals[device.id]) for device, state in devices]

    def _describe(self, device: str, online: Set[str]) -> fleet_pb2.GetDeviceResponse:
        record = self._fleet.get_device(device)
        return details_to_message(
            self._to_message(record, online),
            totals=self._telemetry.totals(record.id),
            counters=self._telemetry.counters(record.id),
            events=self._telemetry.events(record.id, _EVENTS),
        )

    def _to_message(self, record: DeviceRecord, online: Set[str]) -> fleet_pb2.Device:
        totals = self._telemetry.fleet_totals([record.id])
        return device_to_message(record, state=state_of(record, online=online), totals=totals[record.id])
