"""The rows of runs and of their rounds.

The column `error` holds a run's closing words: why it failed, or a remark on
how it finished. A round's row may be written again (replay says it again).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from edgeward.protocol.digests import Digest
from edgeward_coordinator.aggregation.records import RoundRecord, RunRecord
from edgeward_coordinator.aggregation.states import RunState
from edgeward_coordinator.storage import schema
from edgeward_coordinator.storage.statements import insert_into

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from edgeward.protocol.state import ConfigValue
    from edgeward_coordinator.aggregation.records import RunSpec

_MAX_PHASE = 32
_UNFINISHED = [state.value for state in RunState if not state.has_ended]


def insert_run(connection: Connection, spec: RunSpec, *, at: datetime, actor: str) -> None:
    """Add a run, pending."""
    values = {
        "id": spec.run_id,
        "app": spec.app,
        "group_name": spec.group,
        "state": RunState.PENDING.value,
        "rounds": spec.rounds,
        "seed": spec.seed,
        "bundle_digest": spec.bundle_digest,
        "run_config": {key: _for_json(value) for key, value in spec.run_config.items()},
        "min_devices": spec.min_devices,
        "round_timeout_s": spec.round_timeout_s,
        "model": spec.model,
        "created_at": at,
        "created_by": actor,
        "error": "",
    }
    connection.execute(insert(schema.run).values(values))


def load_run(connection: Connection, run_id: str) -> RunRecord | None:
    """A run with its rounds; None where there is none."""
    row = connection.execute(select(schema.run).where(schema.run.c.id == run_id)).mappings().one_or_none()
    return _run_from_row(row, _load_rounds(connection, [run_id])) if row else None


def load_runs(connection: Connection, *, group: str, limit: int) -> list[RunRecord]:
    """The newest runs with their rounds, newest first; of all groups where `group` is empty."""
    table = schema.run
    query = select(table).order_by(table.c.created_at.desc(), table.c.id).limit(limit)
    if group:
        query = query.where(table.c.group_name == group)
    rows = connection.execute(query).mappings().all()
    rounds = _load_rounds(connection, [row["id"] for row in rows])
    return [_run_from_row(row, rounds) for row in rows]


def load_state(connection: Connection, run_id: str, *, lock: bool = False) -> RunState | None:
    """Only the state; None where there is no such run."""
    query = select(schema.run.c.state).where(schema.run.c.id == run_id)
    state = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    return None if state is None else RunState(state)


def load_unfinished(connection: Connection) -> dict[str, RunState]:
    """The runs that have not ended, with their states."""
    table = schema.run
    rows = connection.execute(select(table.c.id, table.c.state).where(table.c.state.in_(_UNFINISHED)))
    return {row.id: RunState(row.state) for row in rows}


def load_ids(connection: Connection) -> set[str]:
    """All runs that ever were."""
    return set(connection.execute(select(schema.run.c.id)).scalars())


def update_run(connection: Connection, run_id: str, **values: Any) -> None:  # noqa: ANN401
    """Change columns."""
    connection.execute(update(schema.run).where(schema.run.c.id == run_id).values(values))


def store_round(connection: Connection, run_id: str, entry: RoundRecord) -> None:
    """Add a round; the same again changes nothing."""
    values = {**asdict(entry), "run_id": run_id, "phase": entry.phase[:_MAX_PHASE]}
    connection.execute(insert_into(connection, schema.run_round).values(values).on_conflict_do_nothing())


def _load_rounds(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[RoundRecord]]:
    table = schema.run_round
    rounds: dict[str, list[RoundRecord]] = {run_id: [] for run_id in run_ids}
    query = select(table).where(table.c.run_id.in_(run_ids)).order_by(table.c.run_id, table.c.call)
    for row in connection.execute(query).mappings():
        values = dict(row)
        rounds[values.pop("run_id")].append(RoundRecord(**values))
    return rounds


def _for_json(value: ConfigValue) -> ConfigValue:
    """PostgreSQL's JSON knows no infinity; the run itself reads run.json."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _run_from_row(row: RowMapping, rounds: dict[str, list[RoundRecord]]) -> RunRecord:
    state = RunState(row["state"])
    words = row["error"]
    return RunRecord(
        run_id=row["id"],
        app=row["app"],
        group=row["group_name"],
        state=state,
        rounds=row["rounds"],
        seed=row["seed"],
        bundle_digest=Digest(row["bundle_digest"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        model=row["model"],
        version=row["version"] or 0,
        error="" if state is RunState.FINISHED else words,
        activity=words if state is RunState.FINISHED else "",
        rounds_log=tuple(rounds[row["id"]]),
    )
