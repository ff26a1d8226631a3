"""The fleet as operators see and change it, over the wire."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.telemetry import (
    CounterIncrements,
    DeviceEvent,
    PredictionWindow,
    TelemetryRecord,
    encode_batch,
)
from edgeward.v1 import agent_pb2, fleet_pb2
from edgeward_server.client import FleetContext, connected, list_devices
from edgeward_server.wire.fleet import pages_of
from tests.server.harness import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.server.harness import Running
    from tests.server.people import Member


async def _names(server: Running, *, group: str = "", state: str = "") -> list[str]:
    stub = await server.fleet()
    listed = await stub.ListDevices(fleet_pb2.ListDevicesRequest(group=group, state=state))
    return [device.name for device in listed.devices]


async def _until(
    answers: AsyncIterator[fleet_pb2.ListDevicesResponse], holds: Callable[[list[fleet_pb2.Device]], bool]
) -> list[fleet_pb2.Device]:
    async for answer in answers:
        if holds(list(answer.devices)):
            return list(answer.devices)
    raise AssertionError("the watch ended")


async def _report(server: Running, member: Member) -> None:
    latency = LatencyHistogram()
    latency.add(0.25)
    now = datetime.now(UTC)
    window = PredictionWindow(
        model="digits",
        version=2,
        flavor="onnx-int8",
        since=now,
        until=now,
        predictions=30,
        calls=1,
        errors=4,
        latency=latency,
    )
    bodies = (
        window,
        CounterIncrements(increments={"offline_s": 1.5}),
        DeviceEvent(kind="activated", detail={"v": "2"}),
    )
    payload = encode_batch([TelemetryRecord(at=now, body=body) for body in bodies])
    agent = await server.agent(member)
    batch = agent_pb2.TelemetryEnvelope(epoch="e", sequence=1, payload=payload)
    await agent.Report(agent_pb2.ReportRequest(batches=[batch]), timeout=20)


async def test_devices_are_listed_by_group_and_state(server: Running) -> None:
    """Filters that nobody meets give an empty list."""
    await server.enroll(name="edge-2")
    await server.enroll(name="edge-1", group="hall")
    assert await _names(server) == ["edge-1", "edge-2"]
    assert await _names(server, group="hall") == ["edge-1"]
    assert await _names(server, state="enrolled") == ["edge-1", "edge-2"]
    assert await _names(server, state="online") == []


async def test_an_unknown_state_is_the_callers_mistake(server: Running) -> None:
    """The message lists those that are."""
    stub = await server.fleet()
    code, said = await refusal(stub.ListDevices(fleet_pb2.ListDevicesRequest(state="asleep")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "'asleep'" in said
    assert "enrolled, online, offline, revoked" in said


async def test_a_device_is_shown_with_what_it_answered(server: Running) -> None:
    """Totals by model, counters, events; the list has their sums."""
    member = await server.enroll(name="edge-1")
    await _report(server, member)
    stub = await server.fleet()
    shown = await stub.GetDevice(fleet_pb2.GetDeviceRequest(device="edge-1"), timeout=20)
    assert (shown.device.id, shown.device.predictions, shown.device.prediction_errors) == (member.id, 30, 4)
    assert [(each.model, each.version, each.flavor, each.predictions) for each in shown.totals] == [
        ("digits", 2, "onnx-int8", 30)
    ]
    assert sum(shown.totals[0].latency.counts.values()) == 1
    assert dict(shown.counters) == {"offline_s": 1.5}
    assert [(each.event.kind, dict(each.event.detail)) for each in shown.events] == [("activated", {"v": "2"})]
    listed = (await stub.ListDevices(fleet_pb2.ListDevicesRequest())).devices[0]
    assert (listed.predictions, listed.prediction_errors) == (30, 4)


async def test_an_unknown_device_is_not_found(server: Running) -> None:
    """By whatever is done to it."""
    stub = await server.fleet()
    for call in (
        stub.GetDevice(fleet_pb2.GetDeviceRequest(device="edge-9")),
        stub.RevokeDevice(fleet_pb2.RevokeDeviceRequest(device="edge-9")),
        stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(device="edge-9", group="lab")),
    ):
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_watch_begins_with_the_list_and_follows_it(server: Running) -> None:
    """A device that joins, changes and leaves appears each time."""
    stub = await server.fleet()
    watch = stub.WatchDevices(fleet_pb2.ListDevicesRequest(), timeout=60)
    answers = aiter(watch)
    assert await _until(answers, lambda devices: not devices) == []
    await server.enroll(name="edge-1")
    await _until(answers, lambda devices: [each.name for each in devices] == ["edge-1"])
    await stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(device="edge-1", group="hall", set_labels={"room": "1"}))
    changed = await _until(answers, lambda devices: devices[0].group == "hall")
    assert dict(changed[0].labels) == {"room": "1"}
    await stub.RevokeDevice(fleet_pb2.RevokeDeviceRequest(device="edge-1", reason="test"))
    await _until(answers, lambda devices: devices[0].state == "revoked")
    watch.cancel()


async def test_a_watch_that_asks_for_nonsense_ends(server: Running) -> None:
    """Like the list."""
    stub = await server.fleet()
    watch = stub.WatchDevices(fleet_pb2.ListDevicesRequest(state="asleep"), timeout=20)
    assert (await refusal(anext(aiter(watch))))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "expires_in_s", [0.0, -1.0, math.nan, math.inf, 1e300], ids=["zero", "negative", "nan", "inf", "huge"]
)
async def test_a_token_needs_a_sane_time(server: Running, expires_in_s: float) -> None:
    """Whatever number comes, it is the caller's mistake and no incident."""
    stub = await server.fleet()
    request = fleet_pb2.CreateEnrollmentTokenRequest(group="lab", uses=1, expires_in_s=expires_in_s)
    assert (await refusal(stub.CreateEnrollmentToken(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_large_fleet_comes_in_pages(server: Running) -> None:
    """Each page says where the next begins; together they are the list."""
    names = [f"edge-{number}" for number in range(3)]
    for name in names:
        await server.enroll(name=name)
    stub = await server.fleet()
    listed = (await stub.ListDevices(fleet_pb2.ListDevicesRequest())).devices
    page = f"{listed[0].name}/{listed[0].id}"
    rest = await stub.ListDevices(fleet_pb2.ListDevicesRequest(page=page))
    assert [device.name for device in rest.devices] == names[1:]
    assert rest.next_page == ""


def _device(number: int, size_bytes: int) -> fleet_pb2.Device:
    return fleet_pb2.Device(id=f"{number:016x}", name=f"edge-{number // 3:03d}", labels={"x": "x" * size_bytes})


@given(st.lists(st.sampled_from([10, 300_000, 700_000]), max_size=12))
def test_pages_add_up_to_the_list_and_fit_a_message(sizes: list[int]) -> None:
    """Sent one after the other, or each asked for by the token of the one before: no device twice, none lost."""
    devices = [_device(number, size) for number, size in enumerate(sizes)]
    pages = list(pages_of(devices, after=""))
    assert [device for page in pages for device in page.devices] == devices
    assert [bool(page.next_page) for page in pages] == [True] * (len(pages) - 1) + [False]
    assert max(page.ByteSize() for page in pages) < 2 << 20
    asked: list[fleet_pb2.ListDevicesResponse] = []
    page = fleet_pb2.ListDevicesResponse()
    while not asked or page.next_page:
        page = next(pages_of(devices, after=page.next_page))
        asked.append(page)
    assert asked == pages


async def test_a_client_puts_the_pages_together(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many calls as it takes; here a page holds one device."""
    monkeypatch.setattr("edgeward_server.wire.fleet._PAGE_BYTES", 0)
    names = [f"edge-{number}" for number in range(4)]
    for name in names:
        await server.enroll(name=name)
    address = f"127.0.0.1:{server.endpoints.port}"
    context = FleetContext(address=address, ca_pem=server.ca_pem.decode(), token=server.admin)

    def list_them() -> list[str]:
        with connected(context) as client:
            return [device.name for device in list_devices(client, fleet_pb2.ListDevicesRequest())]

    assert await asyncio.to_thread(list_them) == names
