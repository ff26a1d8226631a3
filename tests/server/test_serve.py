"""The process: what it says at its start, how it stops, what it refuses, what outlives it."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from edgeward.protocol import wire
from edgeward.protocol.digests import digest_of
from edgeward.v1 import access_pb2, agent_pb2, fleet_pb2, registry_pb2, registry_pb2_grpc, transfer_pb2
from edgeward_coordinator.errors import CoordinatorError, FailedPrecondition, Unavailable
from edgeward_server.client import Address, fetch_presented_certificates, fingerprint_of
from edgeward_server.services import SERVICES
from tests.server.harness import Running, config_in, refusal, running
from tests.server.outage import file_away
from tests.server.people import hello
from tests.server.streams import open_stream, read_to_the_end
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.postgres import PostgresServer


async def whoami(server: Running) -> str:
    """The admin's role, if the coordinator answers."""
    access = await server.access()
    return (await access.WhoAmI(access_pb2.WhoAmIRequest(), timeout=20)).role


async def test_health_is_open_to_all(server: Running) -> None:
    """Whoever reaches the port learns that the server and each of its services serve."""
    health = health_pb2_grpc.HealthStub(await server.channel())
    for service in ("", *SERVICES):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    code, _ = await refusal(health.Check(health_pb2.HealthCheckRequest(service="none")))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(server: Running) -> None:
    """Tools learn the API from the server itself."""
    stub = reflection_pb2_grpc.ServerReflectionStub(await server.channel())
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = [each async for each in stub.ServerReflectionInfo(iter([request]))]
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}


async def test_first_admin_is_announced_once(tmp_path: Path) -> None:
    """The secret is shown at the very first start; it works at later ones, which show none."""
    config = config_in(tmp_path / "data")
    async with running(config) as first:
        assert await whoami(first) == "admin"
    async with running(config, admin=first.admin) as second:
        assert second.announced.secrets == []
        assert await whoami(second) == "admin"


async def test_running_server_is_found_by_its_file(server: Running) -> None:
    """`server.json` says where and which; it is gone when the server is."""
    path = server.config.layout.server_file
    found = json.loads(path.read_text())
    assert (found["port"], found["device_port"]) == (server.endpoints.port, server.endpoints.device_port)
    assert 0 not in (found["port"], found["device_port"])
    chain = fetch_presented_certificates(Address(host="127.0.0.1", port=found["port"]))
    assert fingerprint_of(chain[-1]) == found["ca_fingerprint"]
    await server.stop()
    assert not path.exists()


async def test_second_server_on_a_folder_is_refused(server: Running) -> None:
    """Two processes can't share a data folder; the first goes on undisturbed."""
    with pytest.raises(FailedPrecondition, match="another coordinator"):
        await Running(server.config).start()
    assert await whoami(server) == "admin"


async def test_port_in_use_is_refused_and_leaves_nothing_held(server: Running, tmp_path: Path) -> None:
    """A taken port is named; the folder can be used at once with another."""
    config = config_in(tmp_path / "other")
    with pytest.raises(FailedPrecondition, match=f"can't listen on 127.0.0.1:{server.endpoints.port}"):
        await Running(replace(config, port=server.endpoints.port)).start()
    async with running(config) as other:
        assert await whoami(other) == "admin"


def names_presented(server: Running) -> set[str]:
    """For which names the server's certificate is good."""
    chain = fetch_presented_certificates(Address(host="127.0.0.1", port=server.endpoints.port))
    certificate = x509.load_der_x509_certificate(chain[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


async def test_advertised_names_are_in_the_certificate(tmp_path: Path) -> None:
    """A name that is added is in the certificate from the next start on; the CA stays."""
    config = config_in(tmp_path / "data")
    async with running(config) as first:
        assert names_presented(first) >= {"localhost", "127.0.0.1", "::1"}
    async with running(replace(config, advertise=("edge.example.org", "192.0.2.7")), admin=first.admin) as second:
        assert names_presented(second) >= {"edge.example.org", "192.0.2.7", "localhost"}
        assert second.endpoints.address == "edge.example.org"
        assert second.endpoints.ca_fingerprint == first.endpoints.ca_fingerprint
        assert await whoami(second) == "admin"


async def test_stop_ends_the_endless_and_drains_the_rest(tmp_path: Path) -> None:
    """At a stop a session is told to come back, and an upload in progress is completed."""
    config = config_in(tmp_path / "data", drain_s=30)
    async with running(config) as server:
        session = open_stream((await server.agent(await server.enroll())).Session)
        await session.write(agent_pb2.SessionUp(hello=wire.hello_to_message(hello())))
        data = b"x" * 1000
        registry: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(
            await server.channel(token=server.admin)
        )
        upload = open_stream(registry.UploadArtifact)
        header = transfer_pb2.UploadHeader(sha256=digest_of(data), total_bytes=len(data))
        await upload.write(registry_pb2.UploadArtifactRequest(header=header))
        await upload.read()
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_to_the_end(session)
        await upload.write(registry_pb2.UploadArtifactRequest(chunk=transfer_pb2.Chunk(data=data)))
        done = await upload.read()
        await stopping
    assert (ended.value.code(), ended.value.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "the coordinator is stopping",
    )
    status = rpc_status.from_call(ended.value)  # type: ignore[arg-type]  # it has what is asked of a call
    assert status is not None
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert isinstance(done, registry_pb2.UploadArtifactResponse)
    assert done.done.sha256 == digest_of(data)


async def test_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A call that takes longer than the grace is cancelled."""
    async with running(config_in(tmp_path / "data", drain_s=0.1)) as server:
        registry: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(
            await server.channel(token=server.admin)
        )
        upload = open_stream(registry.UploadArtifact)
        header = transfer_pb2.UploadHeader(sha256="0" * 64, total_bytes=5)
        await upload.write(registry_pb2.UploadArtifactRequest(header=header))
        await upload.read()
        await server.stop()
        code, _ = await refusal(upload.read())
    assert code is grpc.StatusCode.UNAVAILABLE


async def outage_is_survived(server: Running, *, away: Callable[[], AbstractContextManager[None]]) -> None:
    """Calls during an outage are told of it; the session stays; afterwards all goes on."""
    member = await server.enroll()
    session = open_stream((await server.agent(member)).Session)
    await session.write(agent_pb2.SessionUp(hello=wire.hello_to_message(hello())))
    assert (await session.read()).WhichOneof("body") == "welcome"
    assert (await session.read()).WhichOneof("body") == "desired"
    fleet = await server.fleet()
    with away():
        await session.write(agent_pb2.SessionUp(heartbeat=agent_pb2.Heartbeat()))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await fleet.ListDevices(fleet_pb2.ListDevicesRequest(), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "database" in (refused.value.details() or "")
    await wait_until_answered(server)
    await fleet.UpdateDevice(fleet_pb2.UpdateDeviceRequest(device=member.id, group="field"))
    down = await session.read()
    assert down.desired.generation == 1


async def wait_until_answered(server: Running) -> None:
    """The database is back when the coordinator says so."""
    for _ in range(600):
        with suppress(grpc.aio.AioRpcError):
            await whoami(server)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the coordinator does not recover")


async def test_sqlite_file_that_is_gone_for_a_while(tmp_path: Path) -> None:
    """Without its database file the coordinator refuses in words, and goes on when the file is back."""
    config = config_in(tmp_path / "data", heartbeat_s=30)
    async with running(config) as server:
        await outage_is_survived(server, away=lambda: file_away(config.layout.database))


@pytest.mark.postgres
async def test_postgres_that_is_gone_for_a_while(tmp_path: Path, postgres: PostgresServer) -> None:
    """A PostgreSQL that is stopped under the coordinator costs refusals, not the process."""

    @contextmanager
    def stopped() -> Iterator[None]:
        postgres.stop()
        try:
            yield
        finally:
            postgres.start()

    config = config_in(tmp_path / "data", heartbeat_s=30, database_url=postgres.create_database())
    async with running(config) as server:
        await outage_is_survived(server, away=stopped)


async def test_database_that_never_comes_is_told(tmp_path: Path) -> None:
    """A start gives up after its patience, in words, without the password."""
    config = config_in(
        tmp_path / "data", database_url="postgresql+psycopg://u:hush@127.0.0.1:9/none", database_patience_s=0.2
    )
    with pytest.raises(Unavailable, match="database") as refused:
        await Running(config).start()
    assert "hush" not in str(refused.value)


async def test_start_can_be_stopped_while_it_waits(tmp_path: Path) -> None:
    """A signal during the wait for the database ends the start."""
    config = config_in(tmp_path / "data", database_url="postgresql+psycopg://u@127.0.0.1:9/none")
    server = Running(config)
    starting = asyncio.create_task(server.start())
    await wait_until_async(config.layout.lock.exists)
    with pytest.raises(Unavailable, match="stopped"):
        await server.stop()
    with pytest.raises(Unavailable, match="stopped"):
        await starting


async def test_damaged_ca_is_never_replaced(tmp_path: Path) -> None:
    """A CA that can't be read stops the start: a new one would disown every device."""
    config = config_in(tmp_path / "data")
    async with running(config):
        pass
    (config.layout.ca / "ca.pem").write_text("damaged")
    with pytest.raises(CoordinatorError, match=re.escape(str(config.layout.ca / "ca.pem"))):
        await Running(config).start()
