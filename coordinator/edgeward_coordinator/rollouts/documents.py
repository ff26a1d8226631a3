"""What a rollout's rows hold as JSON documents, and back."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeward_coordinator.monitoring.documents import latency_from_document, latency_to_document
from edgeward_coordinator.rollouts.evidence import ShadowEvidence, VersionEvidence
from edgeward_coordinator.rollouts.members import Baseline, FormerAssignment, Member
from edgeward_coordinator.rollouts.rollout import GateResult, GateState, PhaseRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ANSWERS = ("new", "old", "shadow")


def phases_to_document(phases: Iterable[PhaseRecord]) -> list[dict[str, Any]]:
    """To JSON; an e-value that is past all numbers becomes the largest, for JSON has no infinity."""
    return [
        {
            "started_at": _instant_to_document(phase.started_at),
            "ended_at": _instant_to_document(phase.ended_at),
            "passed": phase.passed,
            "gates": [_finite(asdict(gate)) for gate in phase.gates],
            "memory": _finite(phase.memory),
        }
        for phase in phases
    ]


def phases_from_document(document: Iterable[Mapping[str, Any]]) -> tuple[PhaseRecord, ...]:
    """From JSON."""
    return tuple(
        PhaseRecord(
            started_at=_instant_from_document(phase["started_at"]),
            ended_at=_instant_from_document(phase["ended_at"]),
            passed=phase["passed"],
            gates=tuple(GateResult(**{**gate, "state": GateState(gate["state"])}) for gate in phase["gates"]),
            memory=phase["memory"],
        )
        for phase in document
    )


def history_to_document(member: Member) -> dict[str, Any]:
    """What a member was before, to JSON; empty for most."""
    document: dict[str, Any] = {}
    for name in _ANSWERS if member.baseline is not None else ():
        answered = getattr(member.baseline, name)
        if answered != type(answered)():
            document[name] = {**asdict(answered), "latency": latency_to_document(answered.latency)}
    if member.former is not None:
        document["former"] = asdict(member.former)
    return document


def baseline_from_document(document: Mapping[str, Any]) -> Baseline | None:
    """From JSON."""
    if document.keys().isdisjoint(_ANSWERS):
        return None
    return Baseline(
        new=VersionEvidence(**_answered(document.get("new"))),
        old=VersionEvidence(**_answered(document.get("old"))),
        shadow=ShadowEvidence(**_answered(document.get("shadow"))),
    )


def former_from_document(document: Mapping[str, Any]) -> FormerAssignment | None:
    """From JSON."""
    former = document.get("former")
    return None if former is None else FormerAssignment(**former)


def _answered(document: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if document is None else {**document, "latency": latency_from_document(document["latency"])}


def _instant_to_document(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant_from_document(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case float() if math.isnan(value):
            return 0.0
        case float():
            return max(-sys.float_info.max, min(value, sys.float_info.max))
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value
