"""What a rollout does when, and what must hold before it goes on: the plan, and its TOML.

    [defaults]                       # for every phase that does not say otherwise
    soak = "10m"
    device_timeout = "30m"
    silence = "10m"
    max_failed_ratio = 0.02

    [[phases]]
    name = "beside"
    mode = "shadow"
    labels = { site = "hall-3" }
    min_agreement = 0.98

    [[phases]]
    name = "canary"
    devices = 1                      # at least so many, or the share, whichever is more
    share = 0.05
    min_predictions = 20

    [[phases]]
    name = "everyone"
    share = 1.0

Durations are text ("90s", "10m", "2h", "1d") or seconds. What is unknown or of
another type is an error that names the phase and the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, get_args

from edgeward.protocol.state import ProbationRules
from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.rollouts.phases import Gates, Mode, Phase, Plan, WhenInconclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DEFAULT_KEYS",
    "DEFAULT_PLAN_TOML",
    "KINDS",
    "PHASE_KEYS",
    "PROBATION_KEYS",
    "Gates",
    "Mode",
    "Phase",
    "Plan",
    "PlanKey",
    "parse_plan",
    "plan_from_json",
    "plan_to_json",
]

DEFAULT_PLAN_TOML: Final = """\
# Every key: docs/rollouts.md
[defaults]
soak = "10m"               # how long it must have gone well before the next phase
device_timeout = "30m"     # heard of, and not there after so long: stuck
silence = "10m"            # took the version, and not heard of for so long: failed
max_error_ratio = 0.01     # of the new version's calls
max_latency_ratio = 2.0    # p99 of the new version over that of the old

[[phases]]
name = "canary"
devices = 1                # at least so many, or the share, whichever is more
share = 0.05
max_failed_ratio = 0.0     # not one may fail

[[phases]]
name = "quarter"
share = 0.25
max_failed_ratio = 0.02

[[phases]]
name = "everyone"
share = 1.0
max_failed_ratio = 0.02

[probation]                # on each device: until then it goes back by itself
duration = "60s"
max_error_ratio = 0.05
"""


def parse_plan(text: str) -> Plan:
    """A plan from its TOML.

    Raises:
        InvalidArgument: It is no TOML, or says something that can't be; the message names the phase and the key.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidArgument(f"a plan of {len(text)} characters", hint=f"at most {_MAX_CHARACTERS} are allowed")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"the plan is no TOML: {error}", hint="`edgeward rollouts plan` prints one") from error
    _verify_known(document, {"defaults", "phases", "probation", "rest_follows"}, where="the plan")
    defaults = _parse_table(document.get("defaults", {}), DEFAULT_KEYS, where="[defaults]")
    tables = document.get("phases")
    if not isinstance(tables, list) or not 1 <= len(tables) <= _MAX_PHASES:
        raise InvalidArgument("the plan has no phases", hint=f"give 1 to {_MAX_PHASES} tables [[phases]]")
    rest_follows = document.get("rest_follows", False)
    if not isinstance(rest_follows, bool):
        raise _wrong("the plan", "rest_follows", rest_follows, "true or false")
    plan = Plan(
        phases=tuple(_parse_phase(table, number, defaults) for number, table in enumerate(tables, start=1)),
        probation=ProbationRules(**_parse_table(document.get("probation", {}), PROBATION_KEYS, where="[probation]")),
        rest_follows=rest_follows,
    )
    _verify_order(plan)
    return plan


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """As JSON; durations are seconds."""
    document: dict[str, Any] = _without_timedeltas(asdict(plan))
    return document


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """From what `plan_to_json` gave."""
    return Plan(
        phases=tuple(_phase_from_json(phase) for phase in document["phases"]),
        probation=ProbationRules(**_with_timedeltas(document["probation"], _PROBATION_DURATIONS)),
        rest_follows=document["rest_follows"],
    )


# The keys ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanKey:
    """One key of a plan's table: what it takes, and what it means."""

    name: str
    kind: str
    meaning: str


def _keys(*rows: tuple[str, str, str]) -> dict[str, PlanKey]:
    return {name: PlanKey(name=name, kind=kind, meaning=meaning) for name, kind, meaning in rows}


PHASE_KEYS: Final = _keys(
    ("name", "name", "what it is called; each phase another"),
    ("devices", "count", "at least so many devices that are online, where `share` gives fewer"),
    ("share", "share", "of the group's devices, by a stable hash: who is in 5 % is in 25 %"),
    ("labels", "labels", "the devices that have all of these, in place of `devices` and `share`"),
)
DEFAULT_KEYS: Final = _keys(
    ("mode", "mode", "the new version serves, answers beside the old one unseen, or serves a share of the requests"),
    ("soak", "duration", "how long it must have gone well, once the devices are there, before the phase passes"),
    ("device_timeout", "positive duration", "a device that is heard of and takes longer is stuck: failed"),
    ("silence", "positive duration", "a device that took the version and is not heard of for so long has failed"),
    ("evidence_timeout", "positive duration", "how long a phase waits for what its gates need to be judged"),
    ("when_inconclusive", "outcome", "what happens then"),
    ("max_failed_ratio", "share", "of the devices that tried: failed, silent or stuck ones"),
    ("max_error_ratio", "share", "of the new version's calls: those that failed"),
    ("max_latency_ratio", "factor", "p99 of the new version's calls over that of the old version's"),
    ("min_accuracy", "share", "of the new version's answers whose labels came back: right ones"),
    ("max_accuracy_drop", "share", "how far that may lie under the old version's"),
    ("min_agreement", "share", "of the rows that a shadow answered: those that it answered like the old version"),
    ("min_devices", "count", "devices that must have succeeded (all, where there are fewer)"),
    ("min_predictions", "count", "calls of the new version before errors, latency and agreement are judged as good"),
    ("min_labels", "count", "labels that must have come back before accuracy is judged as good"),
    ("ab_share", "inner share", "of the requests, that the new version serves in an `ab` phase"),
    ("alpha", "inner share", "level of the test of an `ab` phase: its chance to call worse what is not"),
)
PROBATION_KEYS: Final = _keys(
    ("duration", "duration", "how long a device must have served the version before it keeps it"),
    ("min_predictions", "count", "how many calls it must have answered too"),
    ("max_error_ratio", "share", "of its calls: more failed ones send it back"),
)

_MAX_CHARACTERS, _MAX_PHASES, _MAX_NAME = 1 << 16, 50, 64
_MAX_SECONDS = 365 * 86400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_GATES: Final = frozenset(each.name for each in fields(Gates))
_DURATIONS: Final = frozenset(key.name for key in DEFAULT_KEYS.values() if "duration" in key.kind)
_PROBATION_DURATIONS: Final = frozenset({"duration"})
# From the least to the most that users see of the new version.
_EXPOSURE: Final[tuple[Mode, ...]] = ("shadow", "ab", "serve")
_ONLY_IN: Final[Mapping[str, tuple[Mode, ...]]] = {
    "min_agreement": ("shadow",),
    "min_accuracy": ("ab", "serve"),
    "max_accuracy_drop": ("ab", "serve"),
    "ab_share": ("ab",),
    "alpha": ("ab",),
}


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError
    return float(value)


def _inner_share(value: object) -> float:
    number = _number(value, 0, 1)
    if number in {0, 1}:
        raise ValueError
    return number


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000_000:
        raise ValueError
    return value


def _duration(value: object) -> timedelta:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else value
    return timedelta(seconds=_number(seconds, 0, _MAX_SECONDS))


def _positive_duration(value: object) -> timedelta:
    duration = _duration(value)
    if not duration:
        raise ValueError
    return duration


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME or not value.isprintable():
        raise ValueError
    return value


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError
    return value


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return parse


# What a kind accepts: its parser, and the words for who gave something else.
KINDS: Final[Mapping[str, tuple[Callable[[object], object], str]]] = {
    "name": (_name, f"a text of 1 to {_MAX_NAME} characters"),
    "count": (_count, "a whole number from 0"),
    "share": (lambda value: _number(value, 0, 1), "a number from 0 to 1"),
    "inner share": (_inner_share, "a number between 0 and 1"),
    "factor": (lambda value: _number(value, 1, math.nextafter(math.inf, 0)), "a number from 1"),
    "labels": (_labels, 'a table of texts: { site = "hall-3" }'),
    "duration": (_duration, 'seconds, or a text such as "90s", "10m", "2h", "1d"; at most 365 days'),
    "positive duration": (_positive_duration, 'more than 0: seconds, or "90s", "10m", "2h", "1d"; at most 365 days'),
    "mode": (_one_of(*get_args(Mode)), '"serve", "shadow" or "ab"'),
    "outcome": (_one_of(*get_args(WhenInconclusive)), '"pass", "fail" or "pause"'),
}


# Parsing -------------------------------------------------------------------


def _parse_table(table: object, keys: Mapping[str, PlanKey], *, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where} is {_shown(table)}", hint="it has to be a table")
    _verify_known(table, keys.keys(), where=where)
    return {name: _parse_value(value, keys[name], where=where) for name, value in table.items()}


def _parse_value(value: object, key: PlanKey, *, where: str) -> object:
    parse, expected = KINDS[key.kind]
    try:
        return parse(value)
    except ValueError:
        raise _wrong(where, key.name, value, expected) from None


def _parse_phase(table: object, number: int, defaults: Mapping[str, Any]) -> Phase:
    called = table.get("name") if isinstance(table, dict) else None
    where = f"phase {number} ({called!r})" if isinstance(called, str) else f"phase {number}"
    own = _parse_table(table, PHASE_KEYS | DEFAULT_KEYS, where=where)
    if "name" not in own:
        raise InvalidArgument(f"{where} has no name", hint='give it one: name = "canary"')
    mode = own.get("mode", defaults.get("mode", "serve"))
    foreign = {key for key, modes in _ONLY_IN.items() if mode not in modes}
    for key in sorted(foreign & own.keys()):
        raise InvalidArgument(
            f"{where}: {key} can't be judged where mode is {mode!r}", hint=f"it is for {' and '.join(_ONLY_IN[key])}"
        )
    values = {key: value for key, value in defaults.items() if key not in foreign} | own
    gates = Gates(**{key: values.pop(key) for key in _GATES & values.keys()})
    phase = Phase(**values, gates=gates)
    _verify_phase(phase, where=where)
    return phase


def _verify_phase(phase: Phase, *, where: str) -> None:
    if phase.labels and (phase.share or phase.devices):
        raise InvalidArgument(f"{where} has labels, and a share or devices", hint="give one or the other")
    if not (phase.labels or phase.share or phase.devices):
        raise InvalidArgument(f"{where} takes no device", hint="give it a share, devices or labels")
    if phase.evidence_timeout < phase.soak:
        raise InvalidArgument(
            f"{where}: evidence_timeout ({phase.evidence_timeout}) is shorter than soak ({phase.soak})",
            hint="give it more time",
        )


def _verify_order(plan: Plan) -> None:
    names = [phase.name for phase in plan.phases]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"{names.count(name)} phases are named {name!r}", hint="name each differently")
    for former, phase in pairwise(plan.phases):
        if _EXPOSURE.index(phase.mode) < _EXPOSURE.index(former.mode):
            raise InvalidArgument(
                f"phase {phase.name!r}: mode {phase.mode!r} can't follow {former.mode!r}, whose devices stay in",
                hint="the order is shadow, ab, serve",
            )
    _verify_growth(plan)
    last = plan.phases[-1]
    if not plan.rest_follows and (last.mode != "serve" or last.labels or last.share < 1):
        raise InvalidArgument(
            f"phase {last.name!r} is the last and does not serve every device",
            hint='end with a phase of mode "serve" and share = 1.0; or say rest_follows = true above all tables, and'
            " the others get the version at once, unjudged, when it has passed",
        )


def _verify_growth(plan: Plan) -> None:
    """Those of a mode stay in it; another mode begins with whom it likes."""
    for former, phase in pairwise(phase for phase in plan.phases if not phase.labels):
        if phase.mode == former.mode and (phase.share, phase.devices) < (former.share, former.devices):
            raise InvalidArgument(
                f"phase {phase.name!r}: share {phase.share:g} with {phase.devices} devices is less than"
                f" {former.share:g} with {former.devices} of {former.name!r}, whose devices stay in",
                hint="let the phases grow",
            )


def _verify_known(table: Mapping[str, object], known: Any, *, where: str) -> None:  # noqa: ANN401 - any container
    for key in table:
        if key not in known:
            raise InvalidArgument(
                f"{where} has an unknown key {key[:40]!r}", hint=f"known are {', '.join(sorted(known))}"
            )


def _wrong(where: str, key: str, value: object, expected: str) -> InvalidArgument:
    return InvalidArgument(f"{where}: {key} is {_shown(value)}", hint=f"give {expected}")


def _shown(value: object) -> str:
    return repr(value)[:80]


# JSON ------------------------------------------------------------------------


def _without_timedeltas(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case timedelta():
            return value.total_seconds()
        case dict():
            return {key: _without_timedeltas(inner) for key, inner in value.items()}
        case tuple():
            return [_without_timedeltas(inner) for inner in value]
        case _:
            return value


def _with_timedeltas(document: Mapping[str, Any], durations: frozenset[str]) -> dict[str, Any]:
    return {key: timedelta(seconds=value) if key in durations else value for key, value in document.items()}


def _phase_from_json(document: Mapping[str, Any]) -> Phase:
    return Phase(**_with_timedeltas(document, _DURATIONS) | {"gates": Gates(**document["gates"])})
