"""Lists of devices that come in pages, put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.v1 import fleet_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeward_server.client.connection import Client


def list_devices(client: Client, request: fleet_pb2.ListDevicesRequest) -> list[fleet_pb2.Device]:
    """All devices that the request asks for, in as many calls as it takes."""
    asked = fleet_pb2.ListDevicesRequest()
    asked.CopyFrom(request)
    devices: list[fleet_pb2.Device] = []
    while True:
        answer = client.fleet.ListDevices(asked)
        devices.extend(answer.devices)
        if not answer.next_page:
            return devices
        asked.page = answer.next_page


def whole_lists(answers: Iterable[fleet_pb2.ListDevicesResponse]) -> Iterator[list[fleet_pb2.Device]]:
    """The lists of one watch, each once all of its pages are here."""
    devices: list[fleet_pb2.Device] = []
    for answer in answers:
        devices.extend(answer.devices)
        if not answer.next_page:
            yield devices
            devices = []
