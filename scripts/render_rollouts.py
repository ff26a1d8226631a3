"""Write the tables of rollouts, states and plan keys, into `docs/rollouts.md`; a test checks that it is current."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.state import ProbationRules
from edgeward_coordinator.rollouts.plan import DEFAULT_KEYS, KINDS, PHASE_KEYS, PROBATION_KEYS, Gates, Phase, PlanKey
from edgeward_coordinator.rollouts.rollout import RolloutState
from edgeward_coordinator.rollouts.transitions import TRANSITIONS, is_no_op

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeward_coordinator.rollouts.transitions import RolloutEvent

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rollouts.md"

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def rendered_page() -> str:
    """The page as it should be."""
    page = PAGE.read_text()
    for name, lines in {"transitions": _transitions(), "plan": _plan(), "probation": _probation()}.items():
        begin = f"<!-- {name}: written by scripts/render_rollouts.py -->\n"
        end = f"<!-- end of {name} -->"
        head, tail = page[: page.index(begin) + len(begin)], page[page.index(end) :]
        page = head + "\n" + "\n".join(lines) + "\n\n" + tail
    return page


def _transitions() -> Iterable[str]:
    yield from ("| state | what happens | next state |", "|---|---|---|")
    for (state, event), reached in TRANSITIONS.items():
        yield f"| {_words(state)} | {_words(event)} | {_words(reached)} |"
    yield ""
    repeated = [f"{_words(event)} what is {_words(state)}" for state, event in _no_ops()]
    yield f"No change, and no error: to {', '.join(repeated)}. Everything else is refused."


def _no_ops() -> Iterable[tuple[RolloutState, RolloutEvent]]:
    events = dict.fromkeys(event for _, event in TRANSITIONS)
    return ((state, event) for event in events for state in RolloutState if is_no_op(state, event))


def _plan() -> Iterable[str]:
    defaults = _defaults(Phase) | _defaults(Gates)
    yield from ("Of a phase only:", "")
    yield from _table(PHASE_KEYS, defaults)
    yield from ("", "Of a phase, or of `[defaults]` for all that say nothing else:", "")
    yield from _table(DEFAULT_KEYS, defaults)


def _probation() -> Iterable[str]:
    return _table(PROBATION_KEYS, _defaults(ProbationRules))


def _table(keys: Mapping[str, PlanKey], defaults: Mapping[str, object]) -> Iterable[str]:
    yield from ("| key | takes | default | means |", "|---|---|---|---|")
    for key in keys.values():
        yield f"| `{key.name}` | {KINDS[key.kind][1]} | {_shown(defaults[key.name])} | {key.meaning} |"


def _defaults(values: type) -> dict[str, object]:
    return {field.name: None if field.default is MISSING else field.default for field in fields(values)}


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case timedelta():
            seconds = value.total_seconds()
            return next(f'"{seconds / size:g}{unit}"' for unit, size in _UNITS if seconds >= size or size == 1)
        case str():
            return f'"{value}"'
        case _:
            return f"{value:g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(rendered_page())
