"""An assignment: what one device runs of a model in place of its group's deployment.

Rollouts make them. One applies only while the device is in the group that it was
made for, so a device that is moved follows its new group at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from edgeward.protocol.state import ProbationRules

if TYPE_CHECKING:
    from collections.abc import Mapping

AssignmentMode = Literal["serve", "shadow", "ab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a device serves of a model, and what beside it.

    `version` is None for nothing at all. In the modes "shadow" and "ab"
    `candidate_version` runs beside it, for `share` of the requests in "ab".
    `release` is the generation that brought it, `generation` that of the last
    change of what devices are told because of it; 0: nothing changed since.
    """

    device_id: str
    model: str
    group: str
    rollout_id: str
    version: int | None
    release: int
    generation: int = 0
    mode: AssignmentMode = "serve"
    candidate_version: int | None = None
    share: float = 0.0
    probation: ProbationRules = field(default_factory=ProbationRules)


def rules_to_document(rules: ProbationRules) -> dict[str, Any]:
    """To JSON."""
    return {
        "duration_s": rules.duration.total_seconds(),
        "min_predictions": rules.min_predictions,
        "max_error_ratio": rules.max_error_ratio,
    }


def rules_from_document(document: Mapping[str, Any]) -> ProbationRules:
    """From JSON."""
    return ProbationRules(
        duration=timedelta(seconds=document["duration_s"]),
        min_predictions=document["min_predictions"],
        max_error_ratio=document["max_error_ratio"],
    )
