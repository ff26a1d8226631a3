"""The composition root: every part of the coordinator, made once and wired here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgeward_coordinator.access import Access
from edgeward_coordinator.aggregation import Runs
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.errors import Unavailable
from edgeward_coordinator.fleet import Fleet
from edgeward_coordinator.identity import FleetCA
from edgeward_coordinator.jobs import Jobs
from edgeward_coordinator.monitoring import Telemetry
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.storage import AuditLog, BlobStore, Database, migrate, wait_for_database
from edgeward_server.access import AccessControl
from edgeward_server.running import RunningCalls
from edgeward_server.sessions import SessionHub

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward_server.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """The parts that a process serves and keeps running."""

    database: Database
    ca: FleetCA
    access: Access
    audit: AuditLog
    fleet: Fleet
    registry: Registry
    deployments: Deployments
    telemetry: Telemetry
    runs: Runs
    jobs: Jobs
    calls: RunningCalls
    hub: SessionHub
    control: AccessControl

    def close(self) -> None:
        """Give the database's connections back; idempotent."""
        self.database.close()


def compose(config: ServerConfig, *, is_stopping: Callable[[], bool] = lambda: False) -> Coordinator:
    """Open the storage and make every part; blocking.

    Args:
        config: The process's.
        is_stopping: Asked while the database is waited for.

    Raises:
        Unavailable: The database did not answer in time.
        CoordinatorError: Something in the data folder can't be used, and what.
    """
    database = Database(config.effective_database_url)
    try:
        wait_for_database(
            database, patience_s=config.database_patience_s, sleep=partial(_pause, is_stopping=is_stopping)
        )
        migrate(database)
        return _wire(config, database)
    except BaseException:
        database.close()
        raise


def _wire(config: ServerConfig, database: Database) -> Coordinator:
    clock, layout = database.clock, config.layout
    blobs = BlobStore(config.effective_object_store)
    ca = FleetCA.load_or_create(layout.ca, clock=clock, device_lifetime=config.device_certificate_lifetime)
    access, fleet = Access(database), Fleet(database, ca)
    registry = Registry(database, blobs, layout.scratch)
    deployments = Deployments(database)
    calls = RunningCalls()
    hub = SessionHub(fleet=fleet, deployments=deployments, calls=calls, heartbeat_s=config.heartbeat_s, clock=clock)
    return Coordinator(
        database=database,
        ca=ca,
        access=access,
        audit=AuditLog(database),
        fleet=fleet,
        registry=registry,
        deployments=deployments,
        telemetry=Telemetry(database),
        runs=Runs(database=database, registry=registry, link=hub, folder=layout.runs, clock=clock),
        jobs=Jobs(database=database, registry=registry, folder=layout.jobs, clock=clock),
        calls=calls,
        hub=hub,
        control=AccessControl(access=access, fleet=fleet, calls=calls, clock=clock),
    )


def _pause(pause_s: float, *, is_stopping: Callable[[], bool]) -> None:
    if is_stopping():
        raise Unavailable("stopped while waiting for the database")
    time.sleep(pause_s)
