"""A group of devices that do what they are told, as rows: what rollouts are tested with in place of agents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert, update

from edgeward.protocol.latency import LatencyHistogram
from edgeward.protocol.state import (
    DesiredModel,
    ModelState,
    ReportedCandidate,
    ReportedModel,
    ReportedState,
)
from edgeward.protocol.telemetry import ComparisonWindow, PredictionWindow, TelemetryRecord, encode_batch
from edgeward_coordinator.deployment import Deployments
from edgeward_coordinator.fleet.documents import reported_to_document
from edgeward_coordinator.monitoring import Envelope, Telemetry
from edgeward_coordinator.rollouts import DeviceState, Rollout, Rollouts, RolloutState
from edgeward_coordinator.storage import next_generation, read_audit_entries, schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.protocol.telemetry import RecordBody
    from edgeward_coordinator.storage import Database
    from tests.conftest import SetClock

MODEL, GROUP, ACTOR = "digits", "lab", "ada"
_AT = datetime(2026, 1, 1, tzinfo=UTC)

QUICK_PLAN = """
[defaults]
soak = "1m"
silence = "10m"
device_timeout = "30m"

[[phases]]
name = "canary"
devices = 1

[[phases]]
name = "everyone"
share = 1.0
"""

ALL_AT_ONCE = '[[phases]]\nname = "everyone"\nshare = 1.0\nsoak = "1m"\n'


class RolloutFleet:
    """Versions 1 to 4 of the model digits, and devices that are online until a test says otherwise."""

    def __init__(self, database: Database, clock: SetClock) -> None:
        self.database, self.clock = database, clock
        self.deployments = Deployments(database)
        self.telemetry = Telemetry(database)
        self.away: set[str] = set()
        self.failing: dict[int, str] = {}
        self._groups: dict[str, str] = {}
        self._sequence = 0
        self.rollouts = self.coordinator()
        _insert_versions(database)

    def coordinator(self) -> Rollouts:
        """The rollouts as a coordinator that has just started sees them."""
        return Rollouts(self.database, self.deployments, clock=self.clock, online=self._online)

    def add(self, count: int = 1, *, group: str = GROUP, labels: dict[str, str] | None = None) -> list[str]:
        """Enroll devices."""
        first = len(self._groups)
        ids = [f"d{number:04}" for number in range(first, first + count)]
        self._groups.update(dict.fromkeys(ids, group))
        rows = [
            {
                "id": device_id,
                "name": device_id,
                "group_name": group,
                "own_labels": labels or {},
                "set_labels": {},
                "certificate_serial": device_id,
                "certificate_not_after": self.clock(),
                "enrollment_key": device_id,
                "enrolled_at": self.clock(),
                "generation_floor": 0,
            }
            for device_id in ids
        ]
        with self.database.write() as connection:
            connection.execute(insert(schema.device), rows)
        return ids

    def move(self, device_id: str, group: str) -> None:
        """As `Fleet.update` does."""
        self._groups[device_id] = group
        with self.database.write() as connection:
            floor = next_generation(connection)
            self._set(connection, device_id, group_name=group, generation_floor=floor)

    def revoke(self, device_id: str) -> None:
        """As `Fleet.revoke` does."""
        with self.database.write() as connection:
            self._set(connection, device_id, revoked_at=self.clock())

    def obey(self, *device_ids: str) -> None:
        """Let devices that are online do what they should and say so; of all where none is named."""
        for device_id in device_ids or tuple(self._groups):
            if device_id not in self.away:
                desired = self.deployments.desired_state(device_id)
                models = tuple(self._reported(model) for model in desired.models)
                self.says(device_id, ReportedState(generation=desired.generation, models=models))

    def says(self, device_id: str, reported: ReportedState) -> None:
        """A device reports."""
        with self.database.write() as connection:
            said = reported_to_document(reported)
            self._set(connection, device_id, reported=said, last_seen_at=self.clock())

    def answers(
        self, device_id: str, version: int, *, calls: int, errors: int = 0, beside: int | None = None, agreed: int = 0
    ) -> None:
        """A device has answered calls; with `beside` as a candidate beside that version."""
        latency = LatencyHistogram()
        for _ in range(calls - errors):
            latency.add(0.001)
        body: RecordBody
        if beside is None:
            body = PredictionWindow(
                model=MODEL,
                version=version,
                flavor="onnx-int8",
                since=_AT,
                until=_AT,
                predictions=calls - errors,
                calls=calls,
                errors=errors,
                latency=latency,
            )
        else:
            body = ComparisonWindow(
                model=MODEL,
                version=beside,
                candidate_version=version,
                candidate_flavor="onnx-int8",
                since=_AT,
                until=_AT,
                rows=calls,
                agreed=agreed,
                calls=calls,
                errors=errors,
                skipped=0,
                latency=latency,
            )
        self._sequence += 1
        payload = encode_batch([TelemetryRecord(at=_AT, body=body)])
        self.telemetry.store_batches(device_id, [Envelope(epoch="e", sequence=self._sequence, payload=payload)])

    def start(self, version: int = 2, *, plan: str = QUICK_PLAN, group: str = GROUP, queue: bool = False) -> Rollout:
        """Start a rollout."""
        return self.rollouts.start(model=MODEL, version=version, group=group, plan_toml=plan, queue=queue, actor=ACTOR)

    def go_on(self, *, until: RolloutState, steps: int = 40) -> None:
        """Step, obey and let time pass until every rollout that was not over is in that state."""
        for _ in range(steps):
            live = [view.rollout for view in self.rollouts.list_rollouts(live_only=True)]
            if all(rollout.state is until for rollout in live):
                return
            self.tick()
        raise AssertionError([(view.rollout.state, view.rollout.reason) for view in self.rollouts.list_rollouts()])

    def tick(self, *, by: timedelta = timedelta(seconds=30)) -> None:
        """One step, what the devices make of it, and some time."""
        self.rollouts.step()
        self.obey()
        self.clock.advance(by)

    def serving(self) -> dict[str, int]:
        """By device the version that should serve; 0 for none."""
        found = {}
        for device_id in self._groups:
            models = self.deployments.desired_state(device_id).models
            found[device_id] = next((model.version for model in models if model.model == MODEL), 0)
        return found

    def desired(self, device_id: str) -> DesiredModel:
        """What a device should do with the model."""
        return next(model for model in self.deployments.desired_state(device_id).models if model.model == MODEL)

    def places(self, rollout: Rollout) -> dict[str, DeviceState]:
        """The states of the admitted devices."""
        return {device.device_id: device.state for device in self.rollouts.devices(rollout.id)}

    def audited(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Actor and action of the entries about a rollout, oldest first."""
        with self.database.read() as connection:
            entries = [entry for entry in read_audit_entries(connection) if entry.subject == rollout.id]
        return [(entry.actor, entry.action) for entry in sorted(entries, key=lambda entry: entry.number)]

    def _online(self, group: str) -> set[str]:
        return {device_id for device_id, place in self._groups.items() if place == group} - self.away

    def _reported(self, model: DesiredModel) -> ReportedModel:
        error = self.failing.get(model.version, "")
        candidate = model.candidate
        return ReportedModel(
            model=model.model,
            version=0 if error else model.version,
            flavor="onnx-int8",
            state=ModelState.FAILED if error else ModelState.SERVING,
            wanted_version=model.version,
            error=error,
            release=model.release,
            candidate=None
            if candidate is None
            else ReportedCandidate(
                version=candidate.version, flavor="onnx-int8", mode=candidate.mode, state=ModelState.SERVING
            ),
        )

    def _set(self, connection: object, device_id: str, **values: object) -> None:
        table = schema.device
        connection.execute(update(table).where(table.c.id == device_id).values(**values))  # type: ignore[attr-defined]


def _insert_versions(database: Database, numbers: Iterable[int] = (1, 2, 3, 4)) -> None:
    """Signed versions, as rows: nobody here opens their artifacts."""
    at = database.clock()
    made = {"created_at": at, "created_by": ACTOR}
    lineage = dict.fromkeys(("run_id", "job_id", "code_digest", "data_digest", "environment_digest", "note"), "")
    with database.write() as connection:
        connection.execute(insert(schema.model).values(name=MODEL, **made))
        for number in numbers:
            version = {"model": MODEL, "number": number, "lineage": {"parent_version": 0, **lineage}, **made}
            connection.execute(insert(schema.model_version).values(version))
            flavor = {
                "model": MODEL,
                "version": number,
                "name": "onnx-int8",
                "format": "onnx",
                "precision": "int8",
                "digest": f"{number:064x}",
                "total_bytes": 10,
                "signature": {"inputs": [], "outputs": []},
                "created_at": at,
                "created_by": ACTOR,
                "approved_at": at,
                "approved_by": ACTOR,
                "signed_at": at,
            }
            connection.execute(insert(schema.flavor).values(flavor))
