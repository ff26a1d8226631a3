"""The whole agent in this process against the simulated coordinator: real gRPC, real disk, real runtimes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.state import (
    CandidateMode,
    DesiredCandidate,
    DesiredModel,
    ModelState,
    ProbationRules,
    ReportedModel,
    RunInvitation,
)
from edgeward.protocol.telemetry import (
    ComparisonWindow,
    CounterIncrements,
    DeviceEvent,
    PredictionWindow,
    RecordBody,
    ResourceSample,
    TelemetryRecord,
    decode_batch,
)
from edgeward_agent.artifacts import StateInUse
from edgeward_agent.backoff import BackoffLimits
from edgeward_agent.config import AgentConfig, Metered, UpdateSettings
from edgeward_agent.daemon import Daemon
from edgeward_agent.identity import NotEnrolled
from edgeward_agent.serving import ServingError
from edgeward_agent.state_dir import StateDir
from edgeward_agent.telemetry import Outbox
from tests.agent.enrolled import enroll_device
from tests.agent.samples import X, scale_model
from tests.agent.simulator import SimulatedCoordinator, flavor_of
from tests.tiny_models import write_onnx_reshape
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONFIG = AgentConfig(
    report_interval=timedelta(seconds=0.1),
    backoff=BackoffLimits(initial_s=0.02, maximum_s=0.2),
    labels={"line": "4"},
)


@pytest.fixture
async def coordinator() -> AsyncIterator[SimulatedCoordinator]:
    """Running."""
    async with SimulatedCoordinator() as running:
        yield running


@pytest.fixture
async def state_dir(coordinator: SimulatedCoordinator, tmp_path: Path) -> StateDir:
    """Of an enrolled device."""
    await enroll_device(coordinator, tmp_path / "state")
    return StateDir(tmp_path / "state")


@asynccontextmanager
async def running(state_dir: StateDir, config: AgentConfig = CONFIG) -> AsyncIterator[Daemon]:
    """A daemon until the end of the block; then it stops in order."""
    daemon = Daemon(state_dir, config, rng=Random(1))
    stop = asyncio.Event()
    task = asyncio.create_task(daemon.run(stop))
    try:
        yield daemon
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task


def records_of(coordinator: SimulatedCoordinator) -> list[TelemetryRecord]:
    return [record for payload in coordinator.batches.values() for record in decode_batch(payload)]


def bodies(coordinator: SimulatedCoordinator, kind: type[RecordBody]) -> list[RecordBody]:
    return [record.body for record in records_of(coordinator) if isinstance(record.body, kind)]


def counter(coordinator: SimulatedCoordinator, name: str) -> float:
    increments = [
        body.increments for body in bodies(coordinator, CounterIncrements) if isinstance(body, CounterIncrements)
    ]
    return sum(increment.get(name, 0) for increment in increments)


def serving(coordinator: SimulatedCoordinator) -> dict[str, int]:
    return {
        model.model: model.version
        for reported in coordinator.reported.values()
        for model in reported.models
        if model.state is ModelState.SERVING
    }


async def test_a_device_says_what_it_is(coordinator: SimulatedCoordinator, state_dir: StateDir) -> None:
    """Inventory with its runtimes, and the labels of enrollment and configuration together."""
    async with running(state_dir):
        await wait_until_async(lambda: coordinator.hellos)
    _, hello = coordinator.hellos[0]
    assert hello.labels == {"site": "hall-3", "line": "4"}
    assert {runtime.name for runtime in hello.inventory.runtimes} == {"onnxruntime", "ai-edge-litert"}
    assert hello.inventory.cores >= 1
    assert hello.inventory.memory_bytes > 1 << 28


async def test_a_deployment_comes_to_serve_and_is_reported(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """Fetched, checked on this device's own runtime, activated; this very process predicts with it."""
    async with running(state_dir) as daemon:
        coordinator.deploy(scale_model(coordinator, tmp_path, factor=3.0))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
        outputs = daemon.agent.predict("scale", X)
        np.testing.assert_allclose(outputs["y"], X * 3)
        await wait_until_async(lambda: [state.generation for state in coordinator.reported.values()] == [1])


async def test_a_version_that_computes_wrong_numbers_never_serves(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """The old one goes on, and why is reported."""
    async with running(state_dir) as daemon:
        coordinator.deploy(scale_model(coordinator, tmp_path, factor=3.0))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
        coordinator.deploy(scale_model(coordinator, tmp_path, version=2, factor=4.0, golden_factor=5.0))
        await wait_until_async(
            lambda: any("wrong numbers" in m.error for r in coordinator.reported.values() for m in r.models)
        )
        np.testing.assert_allclose(daemon.agent.predict("scale", X)["y"], X * 3)
        await wait_until_async(
            lambda: "refused" in {b.kind for b in bodies(coordinator, DeviceEvent) if isinstance(b, DeviceEvent)}
        )


async def test_a_device_that_may_only_use_tflite_takes_that_flavor(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """Its inventory names no other runtime."""
    async with running(state_dir, replace(CONFIG, runtimes=("tflite",))):
        coordinator.deploy(scale_model(coordinator, tmp_path, formats=("onnx", "tflite")))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
    (reported,) = coordinator.reported.values()
    assert (reported.models[0].flavor, reported.models[0].runtime) == ("tflite-fp32", "ai-edge-litert")
    assert [runtime.name for runtime in coordinator.hellos[0][1].inventory.runtimes] == ["ai-edge-litert"]


async def test_what_happened_offline_arrives_when_the_coordinator_is_back(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """Predictions, seconds offline and bytes over the link, each once."""
    model = scale_model(coordinator, tmp_path)
    async with running(state_dir) as daemon:
        coordinator.deploy(model)
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
        await coordinator.stop()
        for _ in range(5):
            daemon.agent.predict("scale", X)
        daemon.agent.close()  # gives its counts on
        await coordinator.start()
        await wait_until_async(lambda: bodies(coordinator, PredictionWindow))
        await wait_until_async(lambda: counter(coordinator, "offline_s") > 0)
    windows = [body for body in bodies(coordinator, PredictionWindow) if isinstance(body, PredictionWindow)]
    assert sum(window.calls for window in windows) == 5
    assert sum(window.predictions for window in windows) == 5 * len(X)
    flavor = model.flavors[0]
    # And the signed metadata.
    assert counter(coordinator, "bytes_received") > flavor.total_bytes + flavor.golden_bytes
    assert counter(coordinator, "bytes_sent") > 0
    assert bodies(coordinator, ResourceSample)


async def test_what_was_acknowledged_is_forgotten(coordinator: SimulatedCoordinator, state_dir: StateDir) -> None:
    """The outbox is empty then, and the coordinator hears so."""
    async with running(state_dir):
        await wait_until_async(lambda: coordinator.batches)
        await wait_until_async(lambda: coordinator.heartbeats and coordinator.heartbeats[-1][1].outbox_records == 0)


async def test_a_reconnected_device_reports_at_once(coordinator: SimulatedCoordinator, state_dir: StateDir) -> None:
    """It does not wait for the rest of an hour's interval, and the time offline is in the report."""
    async with running(state_dir, replace(CONFIG, report_interval=timedelta(hours=1))):
        await wait_until_async(lambda: coordinator.batches)
        before = counter(coordinator, "offline_s")
        await coordinator.stop()
        await coordinator.start()
        await wait_until_async(lambda: counter(coordinator, "offline_s") > before, within_s=20)


async def test_an_invitation_reaches_learning_and_the_end_of_its_run_too(
    coordinator: SimulatedCoordinator, state_dir: StateDir
) -> None:
    """The training code is fetched; and nothing of the run stays when it is over."""
    invitation = RunInvitation(
        run_id="run-1",
        message_id="message-1",
        message_digest=digest_of(b"message"),
        message_bytes=7,
        bundle_digest=digest_of(b"code"),
        bundle_bytes=4,
        deadline=datetime.now(UTC) + timedelta(minutes=5),
    )

    def traces() -> bool:
        # Not a glob: one that walks a folder while it is removed raises.
        return (state_dir.root / "learning" / "runs" / "run-1").exists()

    async with running(state_dir):
        await wait_until_async(lambda: coordinator.online)
        coordinator.invite(invitation)
        await wait_until_async(lambda: (invitation.bundle_digest, 0) in coordinator.fetches)
        await wait_until_async(traces)
        coordinator.end_run("run-1")
        await wait_until_async(lambda: not traces())


async def test_a_boot_without_network_serves(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """And finds the coordinator when there is one."""
    async with running(state_dir):
        coordinator.deploy(scale_model(coordinator, tmp_path))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
    await coordinator.stop()
    async with running(state_dir) as daemon:
        np.testing.assert_allclose(daemon.agent.predict("scale", X)["y"], X * 2)
        hellos = len(coordinator.hellos)
        await coordinator.start()
        await wait_until_async(lambda: len(coordinator.hellos) > hellos)
        _, hello = coordinator.hellos[-1]
        assert hello.reported.generation == 1
        assert hello.reported.models[0].state is ModelState.SERVING


async def test_a_lost_acknowledgement_loses_and_doubles_nothing(
    coordinator: SimulatedCoordinator, state_dir: StateDir
) -> None:
    """The same batch is sent again, byte for byte (the simulator checks that), until it is acknowledged."""
    coordinator.faults.lost_acknowledgements = 3
    async with running(state_dir):
        await wait_until_async(lambda: coordinator.report_calls >= 4 and not coordinator.faults.lost_acknowledgements)
    assert len(bodies(coordinator, ResourceSample)) == 1


async def test_a_short_lived_certificate_is_renewed_in_mid_session(
    coordinator: SimulatedCoordinator, tmp_path: Path
) -> None:
    """The session is opened again with the new one, and the device stays the same."""
    coordinator.lifetime = timedelta(seconds=3)
    identity = await enroll_device(coordinator, tmp_path / "state")
    coordinator.lifetime = timedelta(hours=1)
    async with running(StateDir(tmp_path / "state")):
        await wait_until_async(lambda: coordinator.renewals == [identity.device_id])
        await wait_until_async(lambda: len(coordinator.hellos) >= 2)
    assert {device_id for device_id, _ in coordinator.hellos} == {identity.device_id}


async def test_what_was_counted_is_on_disk_after_an_orderly_end(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """Though the coordinator was away."""
    async with running(state_dir):
        coordinator.deploy(scale_model(coordinator, tmp_path))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
    await coordinator.stop()
    async with running(state_dir) as daemon:
        daemon.agent.predict("scale", X)
    outbox = Outbox(state_dir.outbox)
    outbox.seal()
    left = [record for batch in outbox.unacknowledged(1 << 20) for record in decode_batch(batch.payload)]
    outbox.close()
    assert any(isinstance(record.body, PredictionWindow) for record in left)
    assert any("offline_s" in record.body.increments for record in left if isinstance(record.body, CounterIncrements))


def model_of(coordinator: SimulatedCoordinator, name: str = "scale") -> ReportedModel | None:
    """As the device reported it last."""
    models = [model for reported in coordinator.reported.values() for model in reported.models]
    return next((model for model in models if model.model == name), None)


def state_of(coordinator: SimulatedCoordinator) -> tuple[int, ModelState | None, str]:
    """Version, state and error of the model."""
    model = model_of(coordinator)
    return (model.version, model.state, model.error) if model is not None else (0, None, "")


def events(coordinator: SimulatedCoordinator) -> list[DeviceEvent]:
    return [body for body in bodies(coordinator, DeviceEvent) if isinstance(body, DeviceEvent)]


def breaks_on_two_rows(coordinator: SimulatedCoordinator, folder: Path, template: DesiredModel) -> DesiredModel:
    """Version 2 of a model: it passes its test on one row and fails on any other number."""
    data = write_onnx_reshape(folder / "reshape.onnx", to=[1, 4]).read_bytes()
    flavor = flavor_of(coordinator, template.flavors[0], data=data)
    return replace(template, version=2, flavors=(flavor,), release=2, probation=ProbationRules())


async def test_a_version_that_fails_in_service_is_sent_back_and_told(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """On probation it answers; after five failures the former one serves, and the same release is not tried again."""
    first = scale_model(coordinator, tmp_path, factor=3.0)
    async with running(state_dir) as daemon:
        coordinator.deploy(first)
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
        coordinator.deploy(breaks_on_two_rows(coordinator, tmp_path, first))
        await wait_until_async(lambda: state_of(coordinator)[:2] == (2, ModelState.PROBATION))
        for _ in range(5):
            with pytest.raises(ServingError):
                daemon.agent.predict("scale", X)
        reason = "onnx-fp32: 5 of 5 calls failed (100.0%); at most 5.0% may"
        await wait_until_async(lambda: state_of(coordinator) == (1, ModelState.FAILED, reason))
        np.testing.assert_allclose(daemon.agent.predict("scale", X)["y"], X * 3)
        await wait_until_async(lambda: "rolled_back" in {event.kind for event in events(coordinator)})
        generation = coordinator.desired.generation
        await wait_until_async(
            lambda: all(reported.generation == generation for reported in coordinator.reported.values())
        )
    model = model_of(coordinator)
    assert model is not None
    assert (model.wanted_version, model.release) == (2, 2)
    assert [event.kind for event in events(coordinator)] == ["activated", "activated", "rolled_back"]


async def test_a_version_that_behaves_serves_for_good(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """After its probation, which is told."""
    rules = ProbationRules(duration=timedelta(seconds=0.2), min_predictions=4)
    async with running(state_dir) as daemon:
        coordinator.deploy(scale_model(coordinator, tmp_path, probation=rules))
        await wait_until_async(lambda: state_of(coordinator) == (1, ModelState.PROBATION, ""))
        for _ in range(2):
            daemon.agent.predict("scale", X)
        await wait_until_async(lambda: state_of(coordinator) == (1, ModelState.SERVING, ""))
        await wait_until_async(lambda: [event.kind for event in events(coordinator)] == ["activated", "committed"])


async def test_a_candidate_runs_in_the_shadow(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """Staged, reported, asked beside the version that serves, and the comparison arrives."""
    beside = scale_model(coordinator, tmp_path, version=2, factor=-1.0)
    coordinator.trust.sign_desired(beside)
    candidate = DesiredCandidate(version=2, flavors=beside.flavors, mode=CandidateMode.SHADOW)
    async with running(state_dir) as daemon:
        coordinator.deploy(replace(scale_model(coordinator, tmp_path), candidate=candidate))

        def takes_part() -> bool:
            model = model_of(coordinator)
            return model is not None and model.candidate is not None and model.candidate.state is ModelState.SERVING

        await wait_until_async(takes_part)
        answer = daemon.agent.answer("scale", X)
        assert (answer.version, answer.arm) == (1, "active")
        await asyncio.to_thread(daemon.agent.close)  # gives its counts on
        await wait_until_async(lambda: bodies(coordinator, ComparisonWindow))
    (window,) = [body for body in bodies(coordinator, ComparisonWindow) if isinstance(body, ComparisonWindow)]
    assert (window.version, window.candidate_version, window.rows, window.agreed) == (1, 2, len(X), 0)


async def test_a_metered_link_is_waited_for(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a script of the network says that it is one."""
    monkeypatch.setattr("edgeward_agent.reconcile.loop._ASK_OWNER_AGAIN_S", 0.05)
    state_dir.metered.touch()
    async with running(state_dir, replace(CONFIG, updates=UpdateSettings(metered=Metered.NEVER))):
        coordinator.deploy(scale_model(coordinator, tmp_path))
        await wait_until_async(lambda: state_of(coordinator)[1] is ModelState.WAITING)
        assert state_of(coordinator)[2].startswith("metered link")
        assert coordinator.fetches == []
        state_dir.metered.unlink()
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})


async def test_a_device_that_was_restricted_since_loads_no_other_format(
    coordinator: SimulatedCoordinator, state_dir: StateDir, tmp_path: Path
) -> None:
    """What serves in a format that its owner no longer wants in memory is not loaded, and replaced when it can be."""
    async with running(state_dir):
        coordinator.deploy(scale_model(coordinator, tmp_path, formats=("onnx", "tflite")))
        await wait_until_async(lambda: serving(coordinator) == {"scale": 1})
    await coordinator.stop()
    coordinator.reported.clear()
    async with running(state_dir, replace(CONFIG, runtimes=("tflite",))) as daemon:
        with pytest.raises(ServingError, match="this agent may run tflite, not onnx"):
            daemon.agent.predict("scale", X)
        await coordinator.start()
        await wait_until_async(lambda: (model := model_of(coordinator)) and model.flavor == "tflite-fp32")
        np.testing.assert_allclose(daemon.agent.predict("scale", X)["y"], X * 2)


async def test_a_second_daemon_on_a_state_directory_is_refused(state_dir: StateDir) -> None:
    """Two writers would spoil the slots."""
    async with running(state_dir):
        with pytest.raises(StateInUse, match="another agent"):
            Daemon(state_dir, CONFIG)


async def test_without_enrollment_there_is_no_daemon(tmp_path: Path) -> None:
    """The message says what to run."""
    with pytest.raises(NotEnrolled, match="edgeward-agent enroll"):
        Daemon(StateDir(tmp_path), CONFIG)
