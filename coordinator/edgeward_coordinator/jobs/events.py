"""What a job's process says, a line of JSON each, as events.

The process runs code of the bundle, so its words are checked like any foreign
bytes. What is no JSON object with an "event" is a library talking to itself,
and belongs in the log only.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_format, parse_precision, signature_from_json
from edgeward_coordinator.registry import Evaluation

if TYPE_CHECKING:
    from edgeward.protocol.model import Format, Precision, Signature

_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityChanged:
    """The process does something else now."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavorMade:
    """A flavor lies in the output folder; `file` and `golden` are names in it."""

    name: str
    format: Format
    precision: Precision
    file: str
    golden: str
    signature: Signature
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavorSkipped:
    """A flavor can't be made here, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFailed:
    """Nothing more will come, and why."""

    error: str


Event = ActivityChanged | FlavorMade | FlavorSkipped | ProcessFailed


def parse_event(line: bytes) -> Event | None:
    """Read one line.

    Returns:
        The event; None for a line that is none.

    Raises:
        WireError: An event of another form than agreed.

    >>> parse_event(b'{"event": "activity", "text": "quantizing"}')
    ActivityChanged(text='quantizing')
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or "event" not in document:
        return None
    match document["event"]:
        case "activity":
            return ActivityChanged(text=_text(document, "text"))
        case "flavor":
            return _flavor_made(document)
        case "skipped":
            return FlavorSkipped(name=_text(document, "name"), reason=_text(document, "reason"))
        case "failed":
            return ProcessFailed(error=_text(document, "error"))
        case unknown:
            raise WireError(f"unknown event {str(unknown)[:80]!r} of a job")


def _flavor_made(document: dict[str, Any]) -> FlavorMade:
    return FlavorMade(
        name=_text(document, "name"),
        format=parse_format(_text(document, "format")),
        precision=parse_precision(_text(document, "precision")),
        file=_text(document, "file"),
        golden=_text(document, "golden"),
        signature=signature_from_json(document.get("signature")),
        evaluation=_evaluation(document.get("evaluation")),
    )


def _evaluation(document: object) -> Evaluation | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        raise WireError("an evaluation is an object")
    examples = document.get("examples")
    if type(examples) is not int or examples < 0:
        raise WireError(f"an evaluation has a number of examples, not {str(examples)[:80]!r}")
    return Evaluation(
        examples=examples,
        accuracy=_number(document, "accuracy") if examples else 0.0,
        latency_p50_s=_number(document, "latency_p50_s"),
        runtime=_text(document, "runtime"),
    )


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise WireError(f"an event of a job has a text {key!r}, not {str(value)[:80]!r}")
    return value[:_MAX_TEXT]


def _number(document: dict[str, Any], key: str) -> float:
    value = document.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise WireError(f"an evaluation has a number {key!r}, not {str(value)[:80]!r}")
    return float(value)
