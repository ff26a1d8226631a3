"""A real coordinator in the test's own event loop, on loopback with real TLS, and those who call it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import pytest

from edgeward.v1 import (
    access_pb2,
    access_pb2_grpc,
    agent_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
)
from edgeward_server.config import ServerConfig
from edgeward_server.serve import run_server
from tests.server.bearing import bearing
from tests.server.people import Member, new_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence
    from pathlib import Path

    from edgeward_server.serve import Endpoints


@dataclass
class Announced:
    """Remembers what an operator would have read."""

    secrets: list[str] = field(default_factory=list)
    keys: list[Path] = field(default_factory=list)
    endpoints: asyncio.Future[Endpoints] = field(default_factory=asyncio.Future)

    def first_admin(self, secret: str, endpoints: Endpoints) -> None:  # noqa: ARG002
        """Of the first admin."""
        self.secrets.append(secret)

    def new_keys(self, paths: Sequence[Path]) -> None:
        """Of the keys that sign what may run."""
        self.keys.extend(paths)

    def ready(self, endpoints: Endpoints) -> None:
        """It serves."""
        self.endpoints.set_result(endpoints)


class Running:
    """A coordinator that serves, and channels to it that are closed with it."""

    def __init__(self, config: ServerConfig, *, admin: str = "") -> None:
        self.config = config
        self.admin = admin
        self.announced = Announced()
        self._stop = asyncio.Event()
        self._channels = AsyncExitStack()

    async def start(self) -> Self:
        """Serve; raises what `run_server` raises."""
        self._task = asyncio.create_task(run_server(self.config, stop=self._stop, announcer=self.announced))
        either: list[asyncio.Future[Any]] = [self._task, self.announced.endpoints]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        self.endpoints = self.announced.endpoints.result()
        self.admin = self.admin or next(iter(self.announced.secrets), "")
        self.ca_pem = (self.config.layout.ca / "ca.pem").read_bytes()
        return self

    async def stop(self) -> None:
        """As a signal would; idempotent."""
        self._stop.set()
        await self._task
        await self._channels.aclose()

    async def channel(
        self, *, token: str = "", member: Member | None = None, device_port: bool = False
    ) -> grpc.aio.Channel:
        """To the port for certificates where a member or `device_port` is given, else to the other."""
        if member is not None:
            credentials = grpc.ssl_channel_credentials(self.ca_pem, member.key_pem, member.certificate_pem)
        else:
            credentials = grpc.ssl_channel_credentials(self.ca_pem)
        port = self.endpoints.device_port if member or device_port else self.endpoints.port
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, interceptors=bearing(token))
        return await self._channels.enter_async_context(channel)

    async def fleet(self) -> fleet_pb2_grpc.FleetServiceAsyncStub:
        """As the admin."""
        return fleet_pb2_grpc.FleetServiceStub(await self.channel(token=self.admin))

    async def access(self) -> access_pb2_grpc.AccessServiceAsyncStub:
        """As the admin."""
        return access_pb2_grpc.AccessServiceStub(await self.channel(token=self.admin))

    async def agent(self, member: Member) -> agent_pb2_grpc.AgentServiceAsyncStub:
        """As a device."""
        return agent_pb2_grpc.AgentServiceStub(await self.channel(member=member))

    async def token(self, role: str, *, name: str = "ci", expires_in_s: float = 0) -> access_pb2.CreateTokenResponse:
        """A new operator."""
        access = await self.access()
        return await access.CreateToken(
            access_pb2.CreateTokenRequest(name=name, role=role, expires_in_s=expires_in_s), timeout=20
        )

    async def enroll(self, *, group: str = "lab", name: str = "pi") -> Member:
        """A new device, by the way that devices take."""
        fleet = await self.fleet()
        token = await fleet.CreateEnrollmentToken(
            fleet_pb2.CreateEnrollmentTokenRequest(group=group, uses=1, expires_in_s=600), timeout=20
        )
        made = new_key()
        enrollment: enrollment_pb2_grpc.EnrollmentServiceAsyncStub = enrollment_pb2_grpc.EnrollmentServiceStub(
            await self.channel()
        )
        enrolled = await enrollment.Enroll(
            enrollment_pb2.EnrollRequest(token=token.secret, csr_pem=made.csr_pem, device_name=name), timeout=20
        )
        assert enrolled.device_port == self.endpoints.device_port
        return Member(
            id=enrolled.device_id, group=group, key_pem=made.key_pem, certificate_pem=enrolled.certificate_pem
        )


def config_in(folder: Path, **settings: Any) -> ServerConfig:
    """On loopback, any ports; fast heartbeats."""
    loopback: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "device_port": 0, "heartbeat_s": 1.0}
    return ServerConfig(data_dir=folder, **{**loopback, **settings})


@asynccontextmanager
async def running(config: ServerConfig, *, admin: str = "") -> AsyncIterator[Running]:
    """A coordinator while the block runs; `admin` is the secret that an earlier start announced."""
    server = Running(config, admin=admin)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def refusal(answer: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value.code(), caught.value.details() or ""
