"""Which slot serves, whether it is on probation, and what the other slot is for: `active.json`, and how it may change.

Pure. The other slot is one of three things: the *former* version, to which a
probation that fails goes back; a *candidate*, which runs beside what serves; or
nothing that counts, while it is being filled. Each function below is one change;
persisting its result in one replacement of the file is what makes it happen.

`generation` grows when what serves changes, and only then. A probation that ends
well, a start that is counted and a candidate that comes or goes leave it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward_agent.artifacts.json_fields import (
    as_object,
    decode_fields,
    encode_fields,
    parse_count,
    parse_instant,
    parse_ratio,
    parse_text,
)
from edgeward_agent.artifacts.manifest import parse_slot

if TYPE_CHECKING:
    from datetime import datetime

    from edgeward.protocol.digests import Digest
    from edgeward_agent.artifacts.manifest import SlotName

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """The time in which a version that serves may still be sent back.

    `since` is by the wall clock, which a device may set at any time; whoever
    measures how long it took should use a clock of its own. `release` is that of
    the desired model for which it was installed; `starts` counts the times that
    the agent began while it lasted, those that went well for a while taken off.
    """

    version: int
    digest: Digest
    since: datetime
    release: int
    rules: ProbationRules
    starts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePointer:
    """The slot of a candidate, and what it does; `share` of the requests in [0, 1]."""

    slot: SlotName
    mode: CandidateMode
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which slot serves. `former` is the slot that served before and can again; `generation` counts activations."""

    slot: SlotName
    former: SlotName | None
    generation: int
    probation: Probation | None = None
    candidate: CandidatePointer | None = None

    @property
    def slots_in_use(self) -> frozenset[SlotName]:
        """The slots that nobody may clear."""
        named = (self.slot, self.former, self.candidate.slot if self.candidate else None)
        return frozenset(slot for slot in named if slot is not None)


def activate(
    pointer: Pointer | None, slot: SlotName, *, serial: int, former: SlotName | None, probation: Probation | None
) -> Pointer:
    """`slot` serves from now on; `former` is where to go back to."""
    generation = max(serial, pointer.generation + 1 if pointer else 1)
    return Pointer(slot=slot, former=former, generation=generation, probation=probation)


def step_back(pointer: Pointer, to: SlotName) -> Pointer:
    """The former slot serves again, and there is nothing behind it."""
    return Pointer(slot=to, former=None, generation=pointer.generation + 1)


def give_up(pointer: Pointer, slot: SlotName) -> Pointer:
    """`slot`, which does not serve, is about to be filled with something else."""
    return replace(
        pointer,
        former=None if pointer.former == slot else pointer.former,
        candidate=None if pointer.candidate and pointer.candidate.slot == slot else pointer.candidate,
    )


def stage(pointer: Pointer, candidate: CandidatePointer) -> Pointer:
    """A candidate takes part; it has the place of the former version."""
    return replace(pointer, former=None, candidate=candidate)


def commit(pointer: Pointer) -> Pointer:
    """The version that serves has proven itself; the former one stays where it is."""
    return replace(pointer, probation=None)


def count_starts(pointer: Pointer, change: int) -> Pointer:
    """The agent has begun (1), or has come to an orderly end (-1), while on probation."""
    if pointer.probation is None:
        return pointer
    starts = max(0, pointer.probation.starts + change)
    return replace(pointer, probation=replace(pointer.probation, starts=starts))


def encode_pointer(pointer: Pointer) -> bytes:
    """To JSON."""
    return encode_fields(
        {
            "slot": pointer.slot,
            "former": pointer.former,
            "generation": pointer.generation,
            "probation": _probation_to_json(pointer.probation) if pointer.probation else None,
            "candidate": _candidate_to_json(pointer.candidate) if pointer.candidate else None,
        }
    )


def decode_pointer(data: bytes) -> Pointer:
    """From JSON.

    Raises:
        WireError: It is no pointer.
    """
    fields = decode_fields(data, "pointer to the active slot")
    former, probation, candidate = (fields.get(name) for name in ("former", "probation", "candidate"))
    pointer = Pointer(
        slot=parse_slot(fields.get("slot")),
        former=None if former is None else parse_slot(former),
        generation=parse_count(fields, "generation"),
        probation=None if probation is None else _probation_from_json(as_object(probation, "probation")),
        candidate=None if candidate is None else _candidate_from_json(as_object(candidate, "candidate")),
    )
    named = [pointer.slot, pointer.former, pointer.candidate.slot if pointer.candidate else None]
    if len(pointer.slots_in_use) != len(named) - named.count(None):
        raise WireError("a pointer to the active slot that names a slot twice")
    return pointer


def _probation_to_json(probation: Probation) -> dict[str, Any]:
    rules = probation.rules
    return {
        "version": probation.version,
        "sha256": probation.digest,
        "since": probation.since.isoformat(),
        "release": probation.release,
        "starts": probation.starts,
        "duration_us": rules.duration // _MICROSECOND,
        "min_predictions": rules.min_predictions,
        "max_error_ratio": rules.max_error_ratio,
    }


def _probation_from_json(fields: dict[str, Any]) -> Probation:
    duration_us = parse_count(fields, "duration_us")
    try:
        duration = timedelta(microseconds=duration_us)
    except OverflowError as error:
        raise WireError(f"a probation of {duration_us} microseconds") from error
    return Probation(
        version=parse_count(fields, "version"),
        digest=parse_digest(parse_text(fields, "sha256")),
        since=parse_instant(fields, "since"),
        release=parse_count(fields, "release"),
        rules=ProbationRules(
            duration=duration,
            min_predictions=parse_count(fields, "min_predictions"),
            max_error_ratio=parse_ratio(fields, "max_error_ratio"),
        ),
        starts=parse_count(fields, "starts"),
    )


def _candidate_to_json(candidate: CandidatePointer) -> dict[str, Any]:
    return {"slot": candidate.slot, "mode": candidate.mode.value, "share": candidate.share}


def _candidate_from_json(fields: dict[str, Any]) -> CandidatePointer:
    text = parse_text(fields, "mode")
    try:
        mode = CandidateMode(text)
    except ValueError as error:
        raise WireError(f"no mode of a candidate is called {text[:80]!r}") from error
    return CandidatePointer(slot=parse_slot(fields.get("slot")), mode=mode, share=parse_ratio(fields, "share"))
