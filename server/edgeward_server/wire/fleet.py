"""The messages of `FleetService`.

A page of devices is cut where it passes a megabyte, whatever its devices say:
so with the longest device behind it, it stays below what a message may hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol import wire
from edgeward.protocol.errors import WireError
from edgeward.protocol.instants import timestamp_from_instant
from edgeward.protocol.telemetry import latency_to_message
from edgeward.v1 import agent_pb2, fleet_pb2
from edgeward_coordinator.fleet import DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from edgeward_coordinator.fleet import DeviceRecord
    from edgeward_coordinator.monitoring import DeviceTotals, ModelTotals, TimedEvent

_PAGE_BYTES = 1 << 20


def parse_state(text: str) -> DeviceState | None:
    """A state to filter by; None for an empty one.

    Raises:
        WireError: There is no such state.
    """
    if not text:
        return None
    try:
        return DeviceState(text)
    except ValueError as error:
        raise WireError(f"unknown state {text[:40]!r}; the states are {', '.join(DeviceState)}") from error


def device_to_message(device: DeviceRecord, *, state: DeviceState, totals: DeviceTotals) -> fleet_pb2.Device:
    """To its message; what the device has not said yet is left out."""
    return fleet_pb2.Device(
        id=device.id,
        name=device.name,
        group=device.group,
        labels=dict(device.labels),
        state=state.value,
        enrolled_at=timestamp_from_instant(device.enrolled_at),
        last_seen_at=timestamp_from_instant(device.last_seen_at) if device.last_seen_at else None,
        certificate_not_after=timestamp_from_instant(device.certificate_not_after),
        inventory=wire.inventory_to_message(device.inventory) if device.inventory else None,
        reported=wire.reported_to_message(device.reported) if device.reported else None,
        desired_generation=device.desired_generation,
        heartbeat=wire.heartbeat_to_message(device.heartbeat) if device.heartbeat else None,
        predictions=totals.predictions,
        prediction_errors=totals.errors,
    )


def details_to_message(
    device: fleet_pb2.Device,
    *,
    totals: Iterable[ModelTotals],
    counters: Mapping[str, float],
    events: Iterable[TimedEvent],
) -> fleet_pb2.GetDeviceResponse:
    """All that is known of one device, to its message."""
    return fleet_pb2.GetDeviceResponse(
        device=device,
        totals=[_totals_to_message(each) for each in totals],
        counters=dict(counters),
        events=[_event_to_message(each) for each in events],
    )


def pages_of(devices: Iterable[fleet_pb2.Device], *, after: str) -> Iterator[fleet_pb2.ListDevicesResponse]:
    """The devices, which are in order of name and id, in pages; from the one that `after` names on."""
    page = fleet_pb2.ListDevicesResponse()
    size_bytes = 0
    for device in devices:
        if after and _position_of(device) <= tuple(after.split("/", 1)):
            continue
        if size_bytes > _PAGE_BYTES:
            page.next_page = "/".join(_position_of(page.devices[-1]))
            yield page
            page, size_bytes = fleet_pb2.ListDevicesResponse(), 0
        page.devices.append(device)
        size_bytes += device.ByteSize()
    yield page


def _position_of(device: fleet_pb2.Device) -> tuple[str, str]:
    return device.name, device.id


def _totals_to_message(totals: ModelTotals) -> fleet_pb2.ModelTotals:
    return fleet_pb2.ModelTotals(
        model=totals.model,
        version=totals.version,
        flavor=totals.flavor,
        predictions=totals.predictions,
        calls=totals.calls,
        errors=totals.errors,
        latency=latency_to_message(totals.latency),
    )


def _event_to_message(timed: TimedEvent) -> fleet_pb2.TimedEvent:
    return fleet_pb2.TimedEvent(
        at=timestamp_from_instant(timed.at),
        event=agent_pb2.DeviceEvent(kind=timed.event.kind, detail=dict(timed.event.detail)),
    )
