"""What a device says of itself as JSON documents, and back.

Texts are cut: what a device says is shown in lists, and a device that says too
much must not fill the database.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeward.protocol.state import (
    CandidateMode,
    Heartbeat,
    Inventory,
    ModelState,
    ReportedCandidate,
    ReportedModel,
    ReportedState,
    RuntimeInfo,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_CHARACTERS = 500


def inventory_to_document(inventory: Inventory) -> dict[str, Any]:
    """To JSON."""
    return _cut(asdict(inventory))  # type: ignore[no-any-return]


def inventory_from_document(document: Mapping[str, Any]) -> Inventory:
    """From JSON."""
    runtimes = tuple(RuntimeInfo(**runtime) for runtime in document["runtimes"])
    return Inventory(**{**document, "runtimes": runtimes})


def reported_to_document(reported: ReportedState) -> dict[str, Any]:
    """To JSON: `{"generation": …, "models": [{"model": …, "version": …, "state": …, …}]}`."""
    return _cut(asdict(reported))  # type: ignore[no-any-return]


def reported_from_document(document: Mapping[str, Any]) -> ReportedState:
    """From JSON."""
    models = tuple(reported_model_from_document(model) for model in document["models"])
    return ReportedState(generation=document["generation"], models=models)


def reported_model_from_document(document: Mapping[str, Any]) -> ReportedModel:
    """One of the models of a reported state, from JSON."""
    candidate = document.get("candidate")
    if candidate is not None:
        mode, state = CandidateMode(candidate["mode"]), ModelState(candidate["state"])
        candidate = ReportedCandidate(**{**candidate, "mode": mode, "state": state})
    return ReportedModel(**{**document, "state": ModelState(document["state"]), "candidate": candidate})


def heartbeat_to_document(heartbeat: Heartbeat) -> dict[str, Any]:
    """To JSON."""
    return {**asdict(heartbeat), "at": heartbeat.at.isoformat()}


def heartbeat_from_document(document: Mapping[str, Any]) -> Heartbeat:
    """From JSON."""
    return Heartbeat(**{**document, "at": datetime.fromisoformat(document["at"])})


def _cut(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case str():
            return value.replace("\0", "")[:_MAX_CHARACTERS]
        case dict():
            return {key: _cut(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_cut(inner) for inner in value]
        case _:
            return value
