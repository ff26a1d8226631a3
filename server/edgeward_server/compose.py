"""The composition root: every part of the coordinator, made once and wired here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from edgeward_coordinator.access import Access
from edgeward_coordinator.aggregation import Runs
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.errors import Unavailable
from edgeward_coordinator.fleet import Fleet
from edgeward_coordinator.identity import FleetCA, open_fleet_ca
from edgeward_coordinator.jobs import Jobs
from edgeward_coordinator.monitoring import Telemetry
from edgeward_coordinator.registry import Registry
from edgeward_coordinator.rollouts import Rollouts
from edgeward_coordinator.storage import AuditLog, BlobStore, Database, migrate, wait_for_database
from edgeward_coordinator.trust import Trust, TrustSettings
from edgeward_server.access import AccessControl
from edgeward_server.running import RunningCalls
from edgeward_server.sessions import SessionHub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward_server.config import ServerConfig

# A device heard of within so many heartbeats has a session, if not here then with another coordinator.
_ONLINE_ELSEWHERE_HEARTBEATS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """The parts that a process serves and keeps running; `new_keys` are those that this start made."""

    database: Database
    ca: FleetCA
    access: Access
    audit: AuditLog
    fleet: Fleet
    registry: Registry
    trust: Trust
    new_keys: tuple[Path, ...]
    deployments: Deployments
    rollouts: Rollouts
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
    ca = open_fleet_ca(database, layout.ca, device_lifetime=config.device_certificate_lifetime)
    access, fleet = Access(database), Fleet(database, ca)
    registry = Registry(database, blobs, layout.scratch)
    trust = Trust(database, registry, layout.trust, clock=clock, settings=TrustSettings(approval=config.approval))
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
        trust=trust,
        new_keys=tuple(trust.ensure()),
        deployments=deployments,
        rollouts=Rollouts(
            database,
            deployments,
            clock=clock,
            online=hub.online,
            heard_within=_ONLINE_ELSEWHERE_HEARTBEATS * timedelta(seconds=config.heartbeat_s),
        ),
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
