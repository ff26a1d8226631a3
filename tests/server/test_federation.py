"""Federated runs over the wire; what a run does is tested where the domain is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.digests import digest_of
from edgeward.v1 import federation_pb2, federation_pb2_grpc, registry_pb2, registry_pb2_grpc, transfer_pb2
from tests.server.harness import Running, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    Stub = federation_pb2_grpc.FederationServiceAsyncStub

APP = Path(__file__).parents[1] / "apps" / "mean_app"


async def stub_of(server: Running, *, token: str = "") -> Stub:
    """As the admin, or as who holds a token."""
    stub: Stub = federation_pb2_grpc.FederationServiceStub(await server.channel(token=token or server.admin))
    return stub


async def upload(server: Running) -> str:
    """Bring the app in as the CLI does; returns its digest."""
    bundle = pack_bundle(APP)
    header = transfer_pb2.UploadHeader(sha256=digest_of(bundle), total_bytes=len(bundle))
    chunk = transfer_pb2.Chunk(offset=0, data=bundle)

    def requests() -> Iterator[registry_pb2.UploadArtifactRequest]:
        yield registry_pb2.UploadArtifactRequest(header=header)
        yield registry_pb2.UploadArtifactRequest(chunk=chunk)

    registry: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(
        await server.channel(token=server.admin)
    )
    answers = [answer async for answer in registry.UploadArtifact(requests(), timeout=20)]
    return answers[-1].done.sha256


async def test_run_is_started_watched_and_stopped(server: Running) -> None:
    """A run without devices waits; who watches sees it waiting and then stopped, and the stream ends."""
    stub = await stub_of(server)
    request = federation_pb2.StartRunRequest(
        group="lab", bundle_sha256=await upload(server), rounds=4, run_config={"fraction": "0.5"}, seed=3, min_devices=2
    )
    started = (await stub.StartRun(request, timeout=20)).run
    assert (started.app, started.group, started.state) == ("mean-app", "lab", "pending")
    assert (started.rounds, started.seed, started.model) == (4, 3, "mean")
    assert not started.HasField("started_at")
    activities = []
    async for change in stub.WatchRun(federation_pb2.GetRunRequest(run_id=started.id), timeout=30):
        activities.append(change.run.activity)
        if change.run.activity == "waiting for devices: 0 of 2 online":
            stopped = (await stub.StopRun(federation_pb2.StopRunRequest(run_id=started.id), timeout=20)).run
    assert stopped.state == change.run.state == "stopped"
    assert "waiting for devices: 0 of 2 online" in activities
    listed = (await stub.ListRuns(federation_pb2.ListRunsRequest(group="lab"), timeout=20)).runs
    assert [run.id for run in listed] == [started.id]
    assert (await stub.GetRun(federation_pb2.GetRunRequest(run_id=started.id), timeout=20)).run == listed[0]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        pytest.param({"bundle_sha256": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "not a SHA-256", id="no digest"),
        pytest.param({"bundle_sha256": "0" * 64}, grpc.StatusCode.NOT_FOUND, "no artifact", id="not uploaded"),
        pytest.param({"run_config": {"x": "1"}}, grpc.StatusCode.INVALID_ARGUMENT, "no setting 'x'", id="setting"),
    ],
)
async def test_bad_start_is_refused(
    server: Running, fields: dict[str, object], code: grpc.StatusCode, words: str
) -> None:
    """Each mistake gets its status and a sentence."""
    request = federation_pb2.StartRunRequest(group="lab", bundle_sha256=await upload(server))
    request.MergeFrom(federation_pb2.StartRunRequest(**fields))  # type: ignore[arg-type]
    actual, details = await refusal((await stub_of(server)).StartRun(request, timeout=20))
    assert actual is code
    assert words in details


async def test_unknown_run_is_not_found(server: Running) -> None:
    """Whether asked for, watched or stopped."""
    stub = await stub_of(server)
    code, details = await refusal(stub.GetRun(federation_pb2.GetRunRequest(run_id="none"), timeout=20))
    assert (code, "no run 'none'" in details) == (grpc.StatusCode.NOT_FOUND, True)
    code, _ = await refusal(stub.StopRun(federation_pb2.StopRunRequest(run_id="none"), timeout=20))
    assert code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError, match="no run 'none'"):
        async for _ in stub.WatchRun(federation_pb2.GetRunRequest(run_id="none"), timeout=20):
            pass


async def test_viewer_may_look_and_not_start(server: Running) -> None:
    """Starting a run is for operators."""
    viewer = await stub_of(server, token=(await server.token("viewer")).secret)
    assert list((await viewer.ListRuns(federation_pb2.ListRunsRequest(), timeout=20)).runs) == []
    code, _ = await refusal(viewer.StartRun(federation_pb2.StartRunRequest(group="lab"), timeout=20))
    assert code is grpc.StatusCode.PERMISSION_DENIED
