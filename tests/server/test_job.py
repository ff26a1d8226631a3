"""Jobs over the wire, with the real compression."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import numpy as np

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.tensors import encode_tensors
from edgeward.v1 import job_pb2, job_pb2_grpc
from edgeward_coordinator.registry import Lineage, Registry
from edgeward_coordinator.storage import BlobStore, Database
from tests.registrations import insert_run, upload
from tests.server.harness import Running, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.protocol.tensors import Array

    Stub = job_pb2_grpc.JobServiceAsyncStub


PYPROJECT = """
[project]
name = "doubler"

[tool.edgeward.model]
name = "doubler"
module = "doubler:Net"
example = "doubler:example"
calibration = "doubler:calibration"
held_out = "doubler:held_out"
"""
APP = """
import numpy as np
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2, bias=False)
    def forward(self, x):
        return self.layer(x)

def calibration():
    return np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)

def example():
    return calibration()[:1]

def held_out():
    x = calibration()
    return x, (x[:, 0] < x[:, 1]).astype(np.int64)
"""


async def stub_of(server: Running) -> Stub:
    """As the admin."""
    stub: Stub = job_pb2_grpc.JobServiceStub(await server.channel(token=server.admin))
    return stub


def train(server: Running, folder: Path, arrays: Mapping[str, Array]) -> None:
    """Leave version 1 of doubler as a federated run would, beside the running coordinator."""
    app = folder / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(PYPROJECT)
    (app / "doubler.py").write_text(APP)
    path = folder / "arrays.npz"
    path.write_bytes(encode_tensors(arrays))
    with closing(Database(server.config.effective_database_url)) as database:
        registry = Registry(database, BlobStore(server.config.effective_object_store), folder / "scratch")
        insert_run(database, "00000000000000a1", model="doubler", bundle=upload(registry, pack_bundle(app)))
        lineage = Lineage(run_id="00000000000000a1")
        registry.create_arrays_version(model="doubler", path=path, lineage=lineage, actor="test")


async def watch(stub: Stub, job_id: str) -> list[job_pb2.Job]:
    """Every state of a job until it ends."""
    return [job async for job in stub.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), timeout=150)]


async def test_trained_arrays_become_flavors(server: Running, tmp_path: Path) -> None:
    """Watched from the request to measured flavors; afterwards the job stands in the list."""
    train(server, tmp_path, {"layer.weight": np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)})
    stub = await stub_of(server)
    request = job_pb2.StartCompressionRequest(model="doubler", flavors=["onnx-fp32"])
    started = (await stub.StartCompression(request, timeout=30)).job
    assert (started.state, started.model, started.version) == ("pending", "doubler", 1)
    seen = await watch(stub, started.id)
    last = seen[-1]
    assert (last.state, last.error) == ("finished", "")
    assert [each.flavor.name for each in last.flavors] == ["onnx-fp32"]
    assert [each.evaluation.examples for each in last.flavors] == [64]
    assert last.flavors[0].evaluation.accuracy == 1.0
    assert all(each.evaluation.latency_p50_s > 0 for each in last.flavors)
    assert len(seen) > 3
    assert list((await stub.ListJobs(job_pb2.ListJobsRequest(), timeout=30)).jobs) == [last]


async def test_arrays_that_do_not_fit_the_app_fail_the_job(server: Running, tmp_path: Path) -> None:
    """The reason reaches who watches."""
    train(server, tmp_path, {"other": np.zeros(3, np.float32)})
    stub = await stub_of(server)
    started = (await stub.StartCompression(job_pb2.StartCompressionRequest(model="doubler"), timeout=30)).job
    last = (await watch(stub, started.id))[-1]
    assert last.state == "failed"
    assert "layer.weight" in last.error
    assert last.HasField("ended_at")


async def test_unknown_model_or_job(server: Running) -> None:
    """What does not exist is named."""
    stub = await stub_of(server)
    start = stub.StartCompression(job_pb2.StartCompressionRequest(model="x"), timeout=30)
    assert await refusal(start) == (grpc.StatusCode.NOT_FOUND, "no model 'x'")
    assert await refusal(watch(stub, "x")) == (grpc.StatusCode.NOT_FOUND, "no job 'x'")
