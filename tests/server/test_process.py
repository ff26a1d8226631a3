"""The coordinator as a process: its output, its end, and what a kill leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.telemetry import CounterIncrements, TelemetryRecord, encode_batch
from edgeward.v1 import (
    access_pb2,
    access_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    transfer_pb2,
)
from edgeward_server.client.call_terms import CallTerms
from tests.server.people import new_key
from tests.server.process import ServerProcess
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def channel_to(process: ServerProcess, *, token: str = "", key: bytes = b"", certificate: bytes = b"") -> grpc.Channel:
    """A channel as an operator has it, or with a certificate as a device does."""
    root = (process.data_dir / "ca" / "ca.pem").read_bytes()
    if certificate:
        credentials = grpc.ssl_channel_credentials(root, key, certificate)
        return grpc.secure_channel(f"127.0.0.1:{process.endpoints['device_port']}", credentials)
    channel = grpc.secure_channel(f"127.0.0.1:{process.endpoints['port']}", grpc.ssl_channel_credentials(root))
    return grpc.intercept_channel(channel, CallTerms(token))


def first_admin_of(process: ServerProcess) -> str:
    """As it was printed."""
    found = re.search(r"^    (ewt_\S+)$", process.stdout.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the process with status 0; every line of its log is JSON."""
    with ServerProcess(tmp_path / "data") as process:
        assert process.terminate(number) == 0
    events = [json.loads(line) for line in process.stderr.read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] in ("ready", "stopping", "stopped")] == [
        "ready",
        "stopping",
        "stopped",
    ]


def test_process_loads_no_training_and_no_runtime() -> None:
    """What trains, converts and runs models lives in processes of its own; the server's own stays light."""
    code = "import sys, edgeward_server.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"flwr", "torch", "onnx", "onnxruntime", "ai_edge_litert", "typer"} & set(loaded)


def test_what_is_printed_is_enough_to_log_in(tmp_path: Path) -> None:
    """The command that is printed has the address, the token and the fingerprint of this coordinator."""
    with ServerProcess(tmp_path / "data") as process:
        printed, endpoints = process.stdout.read_text(), process.endpoints
    command = (
        f"edgeward login 127.0.0.1:{endpoints['port']} --token {first_admin_of(process)} "
        f"--ca-fingerprint {endpoints['ca_fingerprint']}"
    )
    assert command in printed
    assert first_admin_of(process) not in process.stderr.read_text()


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After SIGKILL the device is a member, its telemetry counts once, an upload goes on where it stopped."""
    made, data = new_key(), b"artifact" * 200_000
    record = TelemetryRecord(at=datetime.now(UTC), body=CounterIncrements(increments={"offline_s": 1.0}))
    report = agent_pb2.ReportRequest(
        batches=[agent_pb2.TelemetryEnvelope(epoch="e", sequence=1, payload=encode_batch([record]))]
    )
    with ServerProcess(tmp_path / "data") as process:
        admin = first_admin_of(process)
        with channel_to(process, token=admin) as operators, channel_to(process) as strangers:
            token = fleet_pb2_grpc.FleetServiceStub(operators).CreateEnrollmentToken(
                fleet_pb2.CreateEnrollmentTokenRequest(group="lab", uses=1, expires_in_s=60)
            )
            enrolled = enrollment_pb2_grpc.EnrollmentServiceStub(strangers).Enroll(
                enrollment_pb2.EnrollRequest(token=token.secret, csr_pem=made.csr_pem, device_name="pi")
            )
            with channel_to(process, key=made.key_pem, certificate=enrolled.certificate_pem) as devices:
                assert agent_pb2_grpc.AgentServiceStub(devices).Report(report).committed == [1]
            killed = threading.Event()
            answers = iter(
                registry_pb2_grpc.RegistryServiceStub(operators).UploadArtifact(
                    upload_of(data, until=1_000_000, hold=killed)
                )
            )
            assert next(answers).ready.offset == 0
            uploads = process.data_dir / "scratch" / "uploads"
            wait_until(lambda: sum(path.stat().st_size for path in uploads.iterdir()) == 1_000_000)
            process.kill()
            killed.set()
            with pytest.raises(grpc.RpcError):
                next(answers)
    with ServerProcess(tmp_path / "data") as process, channel_to(process, token=admin) as operators:
        with channel_to(process, key=made.key_pem, certificate=enrolled.certificate_pem) as devices:
            assert agent_pb2_grpc.AgentServiceStub(devices).Report(report).committed == [1]
        found = fleet_pb2_grpc.FleetServiceStub(operators).GetDevice(fleet_pb2.GetDeviceRequest(device="pi"))
        assert (found.device.id, dict(found.counters)) == (enrolled.device_id, {"offline_s": 1.0})
        rest = registry_pb2_grpc.RegistryServiceStub(operators).UploadArtifact(upload_of(data, start=1_000_000))
        assert [each.WhichOneof("body") for each in rest] == ["ready", "done"]
        assert access_pb2_grpc.AccessServiceStub(operators).WhoAmI(access_pb2.WhoAmIRequest()).role == "admin"


def upload_of(
    data: bytes, *, start: int = 0, until: int | None = None, hold: threading.Event | None = None
) -> Iterator[registry_pb2.UploadArtifactRequest]:
    """A stretch of an upload, which then stays open for as long as `hold` is not set."""
    header = transfer_pb2.UploadHeader(sha256=digest_of(data), total_bytes=len(data))
    yield registry_pb2.UploadArtifactRequest(header=header)
    end = len(data) if until is None else until
    for offset in range(start, end, 100_000):
        chunk = transfer_pb2.Chunk(offset=offset, data=data[offset : min(offset + 100_000, end)])
        yield registry_pb2.UploadArtifactRequest(chunk=chunk)
    if hold is not None:
        hold.wait(60)
