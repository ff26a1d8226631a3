"""Rollouts over the wire, down to devices that are online and do, or do not, what they should."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from edgeward.protocol import wire
from edgeward.protocol.state import ModelState, ReportedModel, ReportedState
from edgeward.v1 import agent_pb2, deployment_pb2, deployment_pb2_grpc, registry_pb2
from tests.server.harness import Running, config_in, refusal, running
from tests.server.people import hello
from tests.server.streams import EOF
from tests.server.test_registry import stub_of as registry_of
from tests.server.test_registry import upload
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.state import DesiredModel
    from tests.server.people import Member

    Stub = deployment_pb2_grpc.DeploymentServiceAsyncStub

TIMEOUT_S = 60.0
BAD = 3

PLAN = """
[[phases]]
name = "canary"
devices = 1
soak = "0s"

[[phases]]
name = "everyone"
share = 1.0
soak = "0s"
"""
ENDLESS = PLAN.replace('"0s"', '"1h"')


async def stub_of(server: Running, *, token: str = "") -> Stub:
    """As the admin, or another operator."""
    stub: Stub = deployment_pb2_grpc.DeploymentServiceStub(await server.channel(token=token or server.admin))
    return stub


async def publish(server: Running, tmp_path: Path, *, versions: int) -> None:
    """The model scale, each version approved."""
    registry = await registry_of(server)
    for number in range(1, versions + 1):
        artifact = await upload(registry, write_onnx_scale(tmp_path / f"m{number}", factor=float(number)).read_bytes())
        request = registry_pb2.CreateVersionRequest(model="scale", artifact_sha256=artifact)
        await registry.CreateVersion(request, timeout=TIMEOUT_S)
        approval = registry_pb2.ApproveVersionRequest(model="scale", version=number)
        await registry.ApproveVersion(approval, timeout=TIMEOUT_S)


@pytest.fixture
async def lab(server: Running, tmp_path: Path) -> Running:
    """A coordinator with three versions of scale, of which group lab runs the first."""
    await publish(server, tmp_path, versions=3)
    stub = await stub_of(server)
    request = deployment_pb2.SetDeploymentRequest(group="lab", model="scale", version=1)
    await stub.SetDeployment(request, timeout=TIMEOUT_S)
    return server


@asynccontextmanager
async def obedient(server: Running, member: Member) -> AsyncIterator[list[int]]:
    """A device that says that it runs what it should; the bad version fails. Yields what it was told to run."""
    session: Any = (await server.agent(member)).Session(timeout=TIMEOUT_S)  # type: ignore[call-arg]
    await session.write(agent_pb2.SessionUp(hello=wire.hello_to_message(hello())))
    told: list[int] = []

    async def obey() -> None:
        while (down := await session.read()) is not EOF:
            if down.HasField("desired"):
                desired = wire.desired_from_message(down.desired)
                told.extend(model.version for model in desired.models)
                reported = ReportedState(generation=desired.generation, models=tuple(map(said_of, desired.models)))
                await session.write(agent_pb2.SessionUp(reported=wire.reported_to_message(reported)))

    obeying = asyncio.create_task(obey())
    try:
        yield told
    finally:
        obeying.cancel()
        session.cancel()
        await asyncio.wait([obeying])


def said_of(model: DesiredModel) -> ReportedModel:
    """What the device says of a desired model."""
    is_bad = model.version == BAD
    return ReportedModel(
        model=model.model,
        version=0 if is_bad else model.version,
        flavor=model.flavors[0].name,
        state=ModelState.FAILED if is_bad else ModelState.SERVING,
        wanted_version=model.version,
        error="the golden set's outputs differ" if is_bad else "",
        release=model.release,
    )


async def start(stub: Stub, version: int, *, plan: str = PLAN, queue: bool = False) -> deployment_pb2.Rollout:
    """A rollout of scale to group lab."""
    request = deployment_pb2.StartRolloutRequest(
        model="scale", version=version, group="lab", plan_toml=plan, queue=queue
    )
    return (await stub.StartRollout(request, timeout=TIMEOUT_S)).rollout


async def watched(stub: Stub, rollout_id: str) -> list[deployment_pb2.Rollout]:
    """All that a watch shows, until it ends by itself."""
    request = deployment_pb2.WatchRolloutRequest(rollout_id=rollout_id)
    return [answer.rollout async for answer in stub.WatchRollout(request, timeout=TIMEOUT_S)]


async def test_a_good_version_reaches_all_devices_in_phases(lab: Running) -> None:
    """A watch shows it from the first device to the end, and ends with it."""
    members = [await lab.enroll(name=f"pi{number}") for number in range(3)]
    async with obedient(lab, members[0]), obedient(lab, members[1]), obedient(lab, members[2]):
        stub = await stub_of(lab)
        started = await start(stub, 2)
        assert (started.from_version, started.to_version, started.state) == (1, 2, "running")
        assert [phase.state for phase in started.phases] == ["running", "waiting"]
        shown = await watched(stub, started.id)
    ended = shown[-1]
    assert [rollout.state for rollout in shown] == ["running"] * (len(shown) - 1) + ["succeeded"]
    assert [phase.state for phase in ended.phases] == ["passed", "passed"]
    assert [(phase.selected, phase.succeeded) for phase in ended.phases] == [(1, 1), (3, 3)]
    assert [phase.description for phase in ended.phases] == ["1 device", "all devices"]
    assert (ended.group_devices, len(ended.devices)) == (3, 3)
    assert {gate.name: gate.state for gate in ended.phases[1].gates}["install"] == "open"
    (deployment,) = (await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=TIMEOUT_S)).deployments
    assert (deployment.version, deployment.serving) == (2, 3)


async def test_a_bad_version_is_stopped_at_the_first_device(lab: Running) -> None:
    """It goes back by itself; the other devices were never told to run it."""
    members = [await lab.enroll(name=f"pi{number}") for number in range(3)]
    async with (
        obedient(lab, members[0]) as first,
        obedient(lab, members[1]) as second,
        obedient(lab, members[2]) as third,
    ):
        stub = await stub_of(lab)
        started = await start(stub, BAD)
        ended = (await watched(stub, started.id))[-1]
        assert ended.state == "rolled_back"
        assert "install" in ended.reason
        (device,) = ended.devices
        assert (device.state, device.error) == ("returned", "the golden set's outputs differ")
        assert ended.phases[0].state == "failed"
        told = {member.id: versions for member, versions in zip(members, (first, second, third), strict=True)}
    assert told.pop(device.device_id) == [1, BAD, 1]
    assert all(versions == [1] for versions in told.values())


async def test_what_people_say_is_done(lab: Running) -> None:
    """Pause, resume, promote, abort; twice is once, and what can't be is refused with what can."""
    stub = await stub_of(lab)
    rollout = await start(stub, 2, plan=ENDLESS)

    async def control(action: str) -> str:
        request = deployment_pb2.ControlRolloutRequest(rollout_id=rollout.id, action=action, reason="a test")
        return (await stub.ControlRollout(request, timeout=TIMEOUT_S)).rollout.state

    said = [await control(action) for action in ("pause", "pause", "resume", "promote", "abort", "abort")]
    assert said == ["paused", "paused", "running", "running", "aborted", "aborted"]
    again = deployment_pb2.ControlRolloutRequest(rollout_id=rollout.id, action="resume")
    code, message = await refusal(stub.ControlRollout(again, timeout=TIMEOUT_S))
    assert (code, message) == (grpc.StatusCode.FAILED_PRECONDITION, "a rollout that is aborted can't resume")


async def test_rollouts_are_listed_and_shown(lab: Running) -> None:
    """Newest first, live ones alone where asked; the whole plan with one that is shown."""
    stub = await stub_of(lab)
    first = await start(stub, 2, plan=ENDLESS)
    second = await start(stub, 3, queue=True)
    assert second.state == "queued"
    listed = (await stub.ListRollouts(deployment_pb2.ListRolloutsRequest(group="lab"), timeout=TIMEOUT_S)).rollouts
    assert [rollout.id for rollout in listed] == [second.id, first.id]
    abort = deployment_pb2.ControlRolloutRequest(rollout_id=second.id, action="abort")
    await stub.ControlRollout(abort, timeout=TIMEOUT_S)
    live = (await stub.ListRollouts(deployment_pb2.ListRolloutsRequest(live_only=True), timeout=TIMEOUT_S)).rollouts
    assert [rollout.id for rollout in live] == [first.id]
    request = deployment_pb2.GetRolloutRequest(rollout_id=first.id)
    shown = (await stub.GetRollout(request, timeout=TIMEOUT_S)).rollout
    assert (shown.plan_toml, shown.created_by, shown.from_version) == (ENDLESS, "first-admin", 1)


async def test_refusals_come_in_words(lab: Running) -> None:
    """A second one there, a deployment under it, a plan that is none, one that nobody knows."""
    stub = await stub_of(lab)
    rollout = await start(stub, 2, plan=ENDLESS)
    deployment = deployment_pb2.SetDeploymentRequest(group="lab", model="scale", version=3)
    for call, code, words in (
        (start(stub, 3), grpc.StatusCode.FAILED_PRECONDITION, "is not over"),
        (stub.SetDeployment(deployment, timeout=TIMEOUT_S), grpc.StatusCode.FAILED_PRECONDITION, rollout.id),
        (start(stub, 3, plan="phases = 7"), grpc.StatusCode.INVALID_ARGUMENT, "phases"),
        (watched(stub, "nope"), grpc.StatusCode.NOT_FOUND, "no rollout 'nope'"),
    ):
        refused, message = await refusal(call)
        assert (refused, words in message) == (code, True)


async def test_viewers_look_and_operators_act(lab: Running) -> None:
    """As everywhere."""
    rollout = await start(await stub_of(lab), 2, plan=ENDLESS)
    viewer = await stub_of(lab, token=(await lab.token("viewer")).secret)
    request = deployment_pb2.GetRolloutRequest(rollout_id=rollout.id)
    assert (await viewer.GetRollout(request, timeout=TIMEOUT_S)).rollout.id == rollout.id
    pause = deployment_pb2.ControlRolloutRequest(rollout_id=rollout.id, action="pause")
    for call in (viewer.ControlRollout(pause, timeout=TIMEOUT_S), start(viewer, 3)):
        assert (await refusal(call))[0] == grpc.StatusCode.PERMISSION_DENIED


async def test_a_rollout_goes_on_after_the_coordinator_was_started_anew(tmp_path: Path) -> None:
    """Nothing of it lived in the process."""
    async with running(config_in(tmp_path / "data")) as server:
        admin = server.admin
        await publish(server, tmp_path, versions=2)
        member = await server.enroll(name="pi")
        rollout = await start(await stub_of(server), 2)
    async with running(config_in(tmp_path / "data"), admin=admin) as server, obedient(server, member) as told:
        ended = (await watched(await stub_of(server), rollout.id))[-1]
        assert ended.state == "succeeded"
        assert told[-1] == 2
