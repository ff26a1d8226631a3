"""The coordinator's process: start, serve, stop.

Start: hold the data folder, wait for the database, migrate, open the domain,
bind both ports, make the first admin, say where it listens. Stop (SIGTERM,
SIGINT): say NOT_SERVING, take no more calls, end the endless ones, give the rest
a grace, stop the supervisors with their children, close in reverse.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from edgeward.durable import write_atomic
from edgeward_coordinator.errors import Unavailable
from edgeward_server.compose import Coordinator, compose
from edgeward_server.config import join_address
from edgeward_server.data_dir import held_data_dir
from edgeward_server.errors import mapped
from edgeward_server.listeners import Health, ServerCertificate, add_reflection, build_server, listen
from edgeward_server.logs import configure_logs, logged
from edgeward_server.loops import repeat, supervise
from edgeward_server.services import SERVICES, add_services
from edgeward_server.threads import bound_threads, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import grpc

    from edgeward_server.config import ServerConfig

_LOG = structlog.stdlib.get_logger(__name__)

_CREDENTIALS_EVERY_S = 5.0
_CERTIFICATE_EVERY_S = 6 * 3600.0
_TRUST_EVERY_S = 30.0
# Rollouts are looked at so often, and sooner where devices have news, but so far apart.
_ROLLOUTS_EVERY_S = 1.0
_ROLLOUTS_APART_S = 0.25
_ROLLOUTS_REST_RATIO = 4
# A device that is told that the server stops comes back after about so long.
_BACK_AFTER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a running coordinator is found; what `server.json` in the data folder holds.

    Attributes:
        address: A name or address to connect to.
        port: Of the listener for tokens and enrollment.
        device_port: Of the listener for certificates.
        ca_fingerprint: SHA-256 of the fleet CA.
        pid: The process.
    """

    address: str
    port: int
    device_port: int
    ca_fingerprint: str
    pid: int


class Announcer(Protocol):
    """Who is told what an operator must know."""

    def first_admin(self, secret: str, endpoints: Endpoints) -> None:
        """The first admin's token was made; it can't be shown again."""

    def new_keys(self, paths: Sequence[Path]) -> None:
        """The keys that sign what may run were made; those of root and targets can be kept elsewhere."""

    def ready(self, endpoints: Endpoints) -> None:
        """The coordinator answers calls."""


class StdoutAnnouncer:
    """Says it on stdout, where logs do not go."""

    def first_admin(self, secret: str, endpoints: Endpoints) -> None:
        """With the command to log in."""
        where = join_address(endpoints.address, endpoints.port)
        self._say(
            f"The first admin's token, shown this once:\n\n    {secret}\n\nLog in with:\n\n"
            f"    edgeward login {where} --token {secret} --ca-fingerprint {endpoints.ca_fingerprint}\n"
        )

    def new_keys(self, paths: Sequence[Path]) -> None:
        """With what to do about them."""
        listed = "\n".join(f"    {path}" for path in paths)
        self._say(
            f"The keys that sign what may run were made. Back them up: devices trust no others.\n\n{listed}\n\n"
            "Those of root and targets may be taken away to a safer place; what needs them then waits for\n"
            "`edgeward trust export`, `sign` and `import`. Those of snapshot and timestamp must stay.\n"
        )

    def ready(self, endpoints: Endpoints) -> None:
        """In one line."""
        operators = join_address(endpoints.address, endpoints.port)
        devices = join_address(endpoints.address, endpoints.device_port)
        self._say(
            f"Edgeward is ready: operators and enrollment on {operators}, devices on {devices}, "
            f"fleet CA {endpoints.ca_fingerprint}"
        )

    def _say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def serve(config: ServerConfig) -> None:
    """Run a coordinator until SIGTERM or SIGINT; a second signal does not wait.

    Raises:
        CoordinatorError: It can't start, and why.
    """
    configure_logs(log_format=config.log_format, level=config.log_level)
    asyncio.run(_serve_until_signal(config))


async def _serve_until_signal(config: ServerConfig) -> None:
    stop = asyncio.Event()
    with _set_by_signals(stop):
        await run_server(config, stop=stop, announcer=StdoutAnnouncer())


@contextmanager
def _set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def forget() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def heed(name: str) -> None:
        _LOG.info("stopping", signal=name)
        stop.set()
        forget()

    for number in signals:
        loop.add_signal_handler(number, heed, number.name)
    try:
        yield
    finally:
        forget()


async def run_server(config: ServerConfig, *, stop: asyncio.Event, announcer: Announcer) -> None:
    """Serve on this event loop until `stop` is set.

    Raises:
        CoordinatorError: It can't start, and why.
    """
    bound_threads(asyncio.get_running_loop())
    with held_data_dir(config.layout):
        config.layout.server_file.unlink(missing_ok=True)
        coordinator = await in_thread(compose, config, is_stopping=stop.is_set)
        try:
            await _serve(config, coordinator, stop, announcer)
        finally:
            await in_thread(coordinator.close)
            config.layout.server_file.unlink(missing_ok=True)
    _LOG.info("stopped")


async def _serve(config: ServerConfig, coordinator: Coordinator, stop: asyncio.Event, announcer: Announcer) -> None:
    certificate = await in_thread(ServerCertificate, coordinator.ca, _names(config))
    server = build_server((logged, mapped, coordinator.control.admitted))
    try:
        endpoints = _listen(config, server, certificate, ca_fingerprint=coordinator.ca.fingerprint)
        add_services(server, coordinator, device_port=endpoints.device_port)
        health = Health()
        health.add_to(server)
        add_reflection(server, SERVICES)
        async with asyncio.TaskGroup() as tasks:
            background = _start_background(tasks, coordinator, certificate)
            await health.begin(SERVICES)
            await server.start()
            await _announce(config, coordinator, endpoints, announcer)
            await stop.wait()
            await _drain(server, health, coordinator, grace_s=config.drain_s)
            for task in background:
                task.cancel()
    finally:
        await server.stop(grace=None)


def _listen(
    config: ServerConfig, server: grpc.aio.Server, certificate: ServerCertificate, *, ca_fingerprint: str
) -> Endpoints:
    return Endpoints(
        address=_address(config),
        port=listen(server, config.host, config.port, certificate.credentials(ask_for_certificate=False)),
        device_port=listen(server, config.host, config.device_port, certificate.credentials(ask_for_certificate=True)),
        ca_fingerprint=ca_fingerprint,
        pid=os.getpid(),
    )


def _start_background(
    tasks: asyncio.TaskGroup, coordinator: Coordinator, certificate: ServerCertificate
) -> list[asyncio.Task[None]]:
    credentials = coordinator.control.recheck_operators
    work = {
        "sessions": supervise("sessions", coordinator.hub.run),
        "runs": supervise("runs", coordinator.runs.run),
        "jobs": supervise("jobs", coordinator.jobs.run),
        "rollouts": repeat(
            "rollouts", partial(_step_rollouts, coordinator), every_s=_ROLLOUTS_EVERY_S, wake=coordinator.hub.news
        ),
        "trust": repeat("trust", partial(in_thread, coordinator.trust.renew), every_s=_TRUST_EVERY_S),
        "credentials": repeat("credentials", credentials, every_s=_CREDENTIALS_EVERY_S),
        "certificate": repeat("certificate", certificate.renew_when_due, every_s=_CERTIFICATE_EVERY_S),
    }
    return [tasks.create_task(each, name=name) for name, each in work.items()]


async def _step_rollouts(coordinator: Coordinator) -> None:
    """Look at the rollouts once, then rest: many reports at once must not make one look chase the next."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    if await in_thread(coordinator.rollouts.step):
        coordinator.hub.desired_changed()
    await asyncio.sleep(max(_ROLLOUTS_APART_S, _ROLLOUTS_REST_RATIO * (loop.time() - started_s)))


async def _announce(config: ServerConfig, coordinator: Coordinator, endpoints: Endpoints, announcer: Announcer) -> None:
    if coordinator.new_keys:
        announcer.new_keys(coordinator.new_keys)
    secret = await in_thread(coordinator.access.ensure_first_admin)
    if secret is not None:
        announcer.first_admin(secret, endpoints)
    document = json.dumps(asdict(endpoints), indent=2) + "\n"
    await in_thread(write_atomic, config.layout.server_file, document.encode())
    announcer.ready(endpoints)
    _LOG.info("ready", **asdict(endpoints))


async def _drain(server: grpc.aio.Server, health: Health, coordinator: Coordinator, *, grace_s: float) -> None:
    await health.end()
    stopping = asyncio.create_task(server.stop(grace_s), name="drain")
    # The intake is closed before the endless calls are told, or they would come back at once.
    await asyncio.sleep(0)
    coordinator.calls.end_endless(Unavailable("the coordinator is stopping", retry_after=_BACK_AFTER))
    await stopping


def _names(config: ServerConfig) -> tuple[str, ...]:
    """Under which the server's certificate is good: this machine's, and what the operator adds."""
    host = () if config.listens_everywhere else (config.host.strip("[]"),)
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname(), *host, *config.advertise)))


def _address(config: ServerConfig) -> str:
    if config.advertise:
        return config.advertise[0]
    return "localhost" if config.listens_everywhere else config.host
