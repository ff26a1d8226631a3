"""Plans as people write them, and as they are kept."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.state import ProbationRules
from edgeward_coordinator.errors import InvalidArgument
from edgeward_coordinator.rollouts.phases import Gates, Phase, Plan, describe_phase
from edgeward_coordinator.rollouts.plan import (
    DEFAULT_KEYS,
    DEFAULT_PLAN_TOML,
    PHASE_KEYS,
    PROBATION_KEYS,
    parse_plan,
    plan_from_json,
    plan_to_json,
)

EVERYONE = '[[phases]]\nname = "everyone"\nshare = 1.0\n'

_texts = st.text(max_size=20)
_shares = st.floats(0, 1)
_durations = st.timedeltas(timedelta(), timedelta(days=365))
_maybe = st.none() | _shares
_gates = st.builds(
    Gates,
    max_failed_ratio=_shares,
    max_error_ratio=_maybe,
    max_latency_ratio=st.none() | st.floats(1, 100),
    min_accuracy=_maybe,
    max_accuracy_drop=_maybe,
    min_agreement=_maybe,
    min_devices=st.integers(0, 10**6),
    min_predictions=st.integers(0, 10**6),
    min_labels=st.integers(0, 10**6),
)
_phases = st.builds(
    Phase,
    name=_texts,
    mode=st.sampled_from(["serve", "shadow", "ab"]),
    devices=st.integers(0, 10**6),
    share=_shares,
    labels=st.dictionaries(_texts, _texts, max_size=3),
    soak=_durations,
    evidence_timeout=_durations,
    device_timeout=_durations,
    silence=_durations,
    gates=_gates,
    ab_share=_shares,
    alpha=_shares,
    when_inconclusive=st.sampled_from(["pass", "fail", "pause"]),
)
_plans = st.builds(
    Plan,
    phases=st.lists(_phases, min_size=1, max_size=3).map(tuple),
    probation=st.builds(
        ProbationRules, duration=_durations, min_predictions=st.integers(0, 10**6), max_error_ratio=_shares
    ),
    rest_follows=st.booleans(),
)


@given(_plans)
def test_plan_survives_json(plan: Plan) -> None:
    """What is kept is what was asked for."""
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_default_plan_grows_from_a_canary_to_everyone() -> None:
    """One device or 5 %, then 25 %, then all; at the canary not one may fail."""
    plan = parse_plan(DEFAULT_PLAN_TOML)
    assert [(phase.devices, phase.share) for phase in plan.phases] == [(1, 0.05), (0, 0.25), (0, 1.0)]
    assert plan.phases[0].gates.max_failed_ratio == 0
    assert all(phase.gates.max_latency_ratio and phase.soak and phase.silence for phase in plan.phases)


def test_example_of_the_module_is_a_plan() -> None:
    """What the documentation shows can be used."""
    from edgeward_coordinator.rollouts import plan

    text = "".join(line.strip() + "\n" for line in (plan.__doc__ or "").splitlines() if line.startswith("    "))
    assert [phase.name for phase in parse_plan(text).phases] == ["beside", "canary", "everyone"]


def test_defaults_hold_where_a_phase_says_nothing_else() -> None:
    """And a phase's own value goes first."""
    plan = parse_plan(
        '[defaults]\nsoak = "2h"\nmin_accuracy = 0.9\n'
        '[[phases]]\nname = "beside"\nmode = "shadow"\ndevices = 1\n'
        '[[phases]]\nname = "canary"\ndevices = 1\nsoak = 5\n' + EVERYONE
    )
    assert [phase.soak for phase in plan.phases] == [timedelta(hours=2), timedelta(seconds=5), timedelta(hours=2)]
    assert [phase.gates.min_accuracy for phase in plan.phases] == [None, 0.9, 0.9]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ('"90s"', timedelta(seconds=90)),
        ('"10m"', timedelta(minutes=10)),
        ('" 1.5h "', timedelta(minutes=90)),
        ('"1d"', timedelta(days=1)),
        ("30", timedelta(seconds=30)),
        ("0.5", timedelta(seconds=0.5)),
        ("0", timedelta()),
    ],
)
def test_duration(text: str, duration: timedelta) -> None:
    """A number and a unit, or seconds."""
    assert parse_plan(f"{EVERYONE}soak = {text}").phases[0].soak == duration


@pytest.mark.parametrize(
    "line",
    [
        'soak = "10 minutes"',
        'soak = "-5m"',
        "soak = -1",
        "soak = true",
        "soak = nan",
        "soak = 1e300",
        'soak = "400d"',
        "silence = 0",
        "devices = 1.5",
        "devices = -1",
        "devices = true",
        "max_failed_ratio = 1.1",
        "max_error_ratio = nan",
        "min_accuracy = 'high'",
        "max_latency_ratio = 0.5",
        "max_latency_ratio = inf",
        "mode = 'canary'",
        "when_inconclusive = 1",
        "alpha = 0",
    ],
)
def test_wrong_value_names_the_phase_and_the_key(line: str) -> None:
    """Nobody has to guess which of ten phases it is."""
    with pytest.raises(InvalidArgument) as caught:
        parse_plan(f"{EVERYONE}{line}")
    assert "'everyone'" in caught.value.message
    assert line.partition(" ")[0] in caught.value.message
    assert caught.value.hint.startswith("give ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no phases"),
        ("phases = []", "no phases"),
        ("phases = [1]", "phase 1"),
        ("phases =", "no TOML"),
        ("phase = 1\n" + EVERYONE, "unknown key 'phase'"),
        (EVERYONE + "shares = 1", "unknown key 'shares'"),
        ("[defaults]\nshare = 0.5\n" + EVERYONE, "unknown key 'share'"),
        ("[probation]\nsoak = 1\n" + EVERYONE, "unknown key 'soak'"),
        ("[probation]\nduration = 'x'\n" + EVERYONE, r"\[probation\]: duration"),
        ("defaults = 3\n" + EVERYONE, r"\[defaults\]"),
        ("rest_follows = 1\n" + EVERYONE, "rest_follows"),
        ("[[phases]]\nshare = 1.0", "no name"),
        ("[[phases]]\nname = 7\nshare = 1.0", "name is 7"),
        ("[[phases]]\nname = 'a'\n" + EVERYONE, "takes no device"),
        ("[[phases]]\nname = 'a'\nshare = 0.1\nlabels = { a = 'b' }\n" + EVERYONE, "labels, and a share"),
        ("[[phases]]\nname = 'a'\nlabels = { a = 1 }\n" + EVERYONE, "labels is"),
        (EVERYONE + EVERYONE, "named 'everyone'"),
        ("[[phases]]\nname = 'a'\nshare = 0.5\n[[phases]]\nname = 'b'\nshare = 0.2\n" + EVERYONE, "'b': share 0.2"),
        ("[[phases]]\nname = 'a'\nshare = 0.5", "does not serve every device"),
        ("[[phases]]\nname = 'a'\nmode = 'shadow'\nshare = 1.0", "does not serve every device"),
        (EVERYONE + "[[phases]]\nname = 'a'\nmode = 'shadow'\nshare = 1.0", "can't follow 'serve'"),
        (EVERYONE + "min_agreement = 0.9", "min_agreement can't be judged"),
        ("[[phases]]\nname = 'a'\nmode = 'shadow'\nshare = 0.1\nmin_accuracy = 0.9\n" + EVERYONE, "min_accuracy"),
        (EVERYONE + "alpha = 0.05", "alpha can't be judged"),
        (EVERYONE + "soak = '2d'", "shorter than soak"),
        ("x" * 100_000, "100000 characters"),
    ],
)
def test_plan_that_cannot_be_is_refused(text: str, message: str) -> None:
    """With what is wrong and what to do."""
    with pytest.raises(InvalidArgument, match=message) as caught:
        parse_plan(text)
    assert caught.value.hint


def test_plan_may_end_early_where_it_says_so() -> None:
    """Who wants the rest to follow unjudged writes it down."""
    plan = parse_plan("rest_follows = true\n[[phases]]\nname = 'half'\nshare = 0.5")
    assert plan.rest_follows


def test_another_mode_begins_with_whom_it_likes() -> None:
    """A shadow on half of the devices need not be followed by serving on half of them."""
    plan = parse_plan(
        "[[phases]]\nname='beside'\nmode='shadow'\nshare=0.5\n[[phases]]\nname='a'\nshare=0.05\n" + EVERYONE
    )
    assert [phase.share for phase in plan.phases] == [0.5, 0.05, 1.0]


@given(st.text(max_size=200) | st.builds(lambda text: EVERYONE + text, st.text(max_size=50)))
def test_any_text_is_a_plan_or_an_error_of_the_caller(text: str) -> None:
    """Nothing else comes out."""
    try:
        plan = parse_plan(text)
    except InvalidArgument:
        return
    assert plan.phases


def test_every_key_has_a_field() -> None:
    """The keys are those of the values, so that none is forgotten in the documentation."""
    phase_fields = (set(Phase.__dataclass_fields__) | set(Gates.__dataclass_fields__)) - {"gates"}
    assert set(PHASE_KEYS) | set(DEFAULT_KEYS) == phase_fields
    assert set(PROBATION_KEYS) == set(ProbationRules.__dataclass_fields__)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"share": 1.0}, "all devices"),
        ({"devices": 1}, "1 device"),
        ({"share": 0.25, "devices": 3}, "25 % of the devices, at least 3"),
        ({"labels": {"site": "hall-3", "line": "2"}}, "label line=2, site=hall-3"),
        ({"share": 0.1, "mode": "ab"}, "10 % of the devices, 50 % of requests"),
    ],
)
def test_phase_in_words(values: dict[str, Any], words: str) -> None:
    """Whom it takes, for people."""
    assert describe_phase(Phase(name="a", **values)) == words
