"""`edgeward-agent status`: what is on this device, from its disk alone."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeward_agent.artifacts import models_on_disk, read_active, read_candidate
from edgeward_agent.identity import IdentityStore, NotEnrolled, renewal_due_at
from edgeward_agent.reconcile import DesiredStore
from edgeward_agent.telemetry import Outbox

if TYPE_CHECKING:
    import argparse

    from edgeward_agent.state_dir import StateDir


def status_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Print it."""
    facts = read_status(state_dir, now=datetime.now(UTC))
    text = json.dumps(facts, indent=2) if parsed.json else "\n".join(_lines(facts))
    sys.stdout.write(text + "\n")
    return 0


def read_status(state_dir: StateDir, *, now: datetime) -> dict[str, Any]:
    """Everything, as JSON would have it; a part that is not there is None."""
    stored = DesiredStore(state_dir.desired).load()
    return {
        "state_dir": str(state_dir.root),
        "identity": _identity(state_dir, now),
        "generation": {"desired": stored.desired.generation if stored.desired else None, "reached": stored.reached},
        "models": [_model(state_dir, name) for name in models_on_disk(state_dir.models)],
        "outbox": _outbox(state_dir),
        "metered": state_dir.metered.exists(),
    }


def _identity(state_dir: StateDir, now: datetime) -> dict[str, Any] | None:
    try:
        identity = IdentityStore(state_dir.identity).load()
    except NotEnrolled:
        return None
    return {
        "device_id": identity.device_id,
        "name": identity.name,
        "group": identity.group,
        "coordinator": identity.address,
        "certificate_valid_until": identity.not_after.isoformat(timespec="seconds"),
        "certificate_renewed_from": renewal_due_at(identity.not_before, identity.not_after).isoformat(
            timespec="seconds"
        ),
        "certificate_expired": identity.not_after < now,
    }


def _model(state_dir: StateDir, name: str) -> dict[str, Any]:
    folder = state_dir.models / name
    active, candidate = read_active(folder), read_candidate(folder)
    facts: dict[str, Any] = {"model": name, "version": None, "flavor": None, "bytes": 0, "state": None}
    if active is not None:
        facts |= {
            "version": active.version,
            "flavor": active.flavor,
            "bytes": active.path.stat().st_size if active.path.exists() else 0,
            "state": "serving" if active.probation is None else "probation",
        }
    facts["candidate"] = None
    if candidate is not None:
        beside = candidate.active
        facts["candidate"] = {"version": beside.version, "flavor": beside.flavor, "mode": candidate.mode.value}
    return facts


def _outbox(state_dir: StateDir) -> dict[str, int] | None:
    if not state_dir.outbox.exists():
        return None
    outbox = Outbox(state_dir.outbox)
    try:
        size = outbox.size()
    finally:
        outbox.close()
    return {"records": size.records, "bytes": size.bytes}


def _lines(facts: dict[str, Any]) -> list[str]:
    identity, outbox = facts["identity"], facts["outbox"]
    lines = [f"state directory  {facts['state_dir']}"]
    if identity is None:
        lines.append("device           not enrolled; run edgeward-agent enroll STRING")
    else:
        expired = ", EXPIRED: enroll again with --force" if identity["certificate_expired"] else ""
        lines += [
            f"device           {identity['device_id']} ({identity['name']}) in group {identity['group']}",
            f"coordinator      {identity['coordinator']}",
            f"certificate      valid until {identity['certificate_valid_until']}{expired}",
        ]
    generation = facts["generation"]
    desired = "none yet" if generation["desired"] is None else f"{generation['desired']}"
    lines.append(f"generation       desired {desired}, reached {generation['reached']}")
    lines += [f"model            {model['model']}: {_model_line(model)}" for model in facts["models"]]
    if not facts["models"]:
        lines.append("model            none installed")
    waiting = "empty" if outbox is None else f"{outbox['records']} records, {outbox['bytes']} bytes"
    lines.append(f"outbox           {waiting}")
    lines.append(f"link             {'metered' if facts['metered'] else 'unmetered'}")
    return lines


def _model_line(model: dict[str, Any]) -> str:
    if model["version"] is None:
        return "nothing serves"
    probation = ", on probation" if model["state"] == "probation" else ""
    line = f"version {model['version']} ({model['flavor']}, {model['bytes']} bytes{probation})"
    beside = model["candidate"]
    return line if beside is None else f"{line}, beside it version {beside['version']} ({beside['mode']})"
