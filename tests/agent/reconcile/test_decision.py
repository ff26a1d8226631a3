"""The rule of the next steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.state import CandidateMode, DesiredModel, DesiredState
from edgeward_agent.reconcile import (
    Cause,
    DropCandidate,
    Install,
    Observed,
    Remove,
    Rest,
    Rests,
    Stage,
    is_settled,
    next_steps,
)
from tests.agent.reconcile.facts import (
    NOW,
    beside,
    flavor,
    install,
    observed,
    on_probation,
    refusal,
    resting,
    serving,
    stage,
    staged,
    wanted,
)

if TYPE_CHECKING:
    from edgeward.protocol.model import Format
    from edgeward_agent.artifacts import Refusal
    from edgeward_agent.reconcile import Step

BOTH: tuple[Format, ...] = ("onnx", "tflite")


def decide(
    desired: tuple[DesiredModel, ...] | None,
    seen: Observed | None = None,
    *,
    rests: Rests | None = None,
    formats: tuple[Format, ...] = BOTH,
    busy: tuple[str, ...] = (),
    now: float = NOW,
) -> list[Step]:
    state = None if desired is None else DesiredState(generation=1, models=desired)
    return next_steps(state, seen or Observed(), rests or Rests(), formats=formats, busy=busy, now=now)


A1 = wanted("a", 1, "onnx-int8", "tflite-int8")
B1 = wanted("b", 1, "onnx-int8")
A1_BESIDE_2 = wanted("a", 1, "onnx-int8", candidate=beside("a", 2, "onnx-int8"))
SERVES = serving("a", 1, "onnx-int8")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(decide(None, observed(SERVES)), [], id="never told: nothing is touched"),
        pytest.param(decide(()), [], id="nothing wanted, nothing there"),
        pytest.param(decide((A1,)), [install("a", 1, "onnx-int8")], id="the first flavor is the best"),
        pytest.param(
            decide((A1,), formats=("tflite",)), [install("a", 1, "tflite-int8")], id="a flavor needs its runtime"
        ),
        pytest.param(decide((A1,), formats=()), [], id="no runtime at all"),
        pytest.param(decide((A1,), observed(SERVES)), [], id="serves already"),
        pytest.param(
            decide((A1,), observed(serving("a", 1, "tflite-int8"))),
            [install("a", 1, "onnx-int8")],
            id="a better flavor of the same version",
        ),
        pytest.param(
            decide((wanted("a", 2, "onnx-int8"),), observed(SERVES)),
            [install("a", 2, "onnx-int8")],
            id="another version",
        ),
        pytest.param(
            decide((A1,), observed(refusals={"a": (refusal("a", 1, "onnx-int8"),)})),
            [install("a", 1, "tflite-int8")],
            id="a refused flavor is passed over",
        ),
        pytest.param(
            decide((A1,), observed(refusals={"a": (refusal("a", 1, "onnx-int8"), refusal("a", 1, "tflite-int8"))})),
            [],
            id="all flavors refused",
        ),
        pytest.param(
            decide((A1,), observed(refusals={"a": (refusal("a", 1, "onnx-int8", release=6),)})),
            [install("a", 1, "onnx-int8")],
            id="a newer release gives another try",
        ),
        pytest.param(
            decide((A1,), observed(refusals={"a": (refusal("a", 2, "onnx-int8"),)})),
            [install("a", 1, "onnx-int8")],
            id="a refusal is for one version",
        ),
        pytest.param(
            decide((A1,), observed(serving("a", 1, "tflite-int8"), refusals={"a": (refusal("a", 1, "onnx-int8"),)})),
            [],
            id="the next best serves while the best is refused",
        ),
        pytest.param(
            decide((A1, B1)), [install("a", 1, "onnx-int8"), install("b", 1, "onnx-int8")], id="models go on together"
        ),
        pytest.param(decide((A1, B1), rests=resting("a")), [install("b", 1, "onnx-int8")], id="a resting model waits"),
        pytest.param(decide((A1, B1), busy=("a",)), [install("b", 1, "onnx-int8")], id="a step at a time"),
        pytest.param(
            decide((A1,), rests=resting("a"), now=NOW + 1), [install("a", 1, "onnx-int8")], id="its rest is over"
        ),
        pytest.param(
            decide((B1,), observed(SERVES, serving("b", 1, "onnx-int8"))), [Remove(model="a")], id="no longer wanted"
        ),
        pytest.param(decide((), observed(on_disk=("a",))), [Remove(model="a")], id="half of what is not wanted"),
        pytest.param(decide((), observed(SERVES), busy=("a",)), [], id="what is being installed is not removed yet"),
    ],
)
def test_the_version_that_serves(steps: list[Step], expected: list[Step]) -> None:
    """The table of the rule."""
    assert steps == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(decide((A1_BESIDE_2,)), [install("a", 1, "onnx-int8")], id="first what it runs beside"),
        pytest.param(decide((A1_BESIDE_2,), observed(SERVES)), [stage("a", 2, "onnx-int8")], id="then the candidate"),
        pytest.param(
            decide((A1_BESIDE_2,), observed(on_probation(SERVES))), [], id="it takes the place of the former version"
        ),
        pytest.param(
            decide((A1_BESIDE_2,), observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),))), [], id="runs already"
        ),
        pytest.param(
            decide(
                (wanted("a", 1, "onnx-int8", candidate=beside("a", 2, "onnx-int8", mode=CandidateMode.AB, share=0.5)),),
                observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),)),
            ),
            [stage("a", 2, "onnx-int8", mode=CandidateMode.AB, share=0.5)],
            id="another mode",
        ),
        pytest.param(
            decide((A1_BESIDE_2,), observed(SERVES, candidates=(staged("a", 3, "onnx-int8"),))),
            [stage("a", 2, "onnx-int8")],
            id="another candidate",
        ),
        pytest.param(
            decide((A1,), observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),))),
            [DropCandidate(model="a")],
            id="none is wanted any more",
        ),
        pytest.param(
            decide(
                (A1_BESIDE_2,),
                observed(
                    SERVES,
                    candidates=(staged("a", 2, "onnx-int8"),),
                    refusals={"a": (refusal("a", 2, "onnx-int8"),)},
                ),
            ),
            [DropCandidate(model="a")],
            id="it was refused since",
        ),
        pytest.param(
            decide((A1_BESIDE_2,), observed(SERVES, refusals={"a": (refusal("a", 2, "onnx-int8"),)})),
            [],
            id="it was refused before",
        ),
        pytest.param(
            decide(
                (wanted("a", 1, "onnx-int8", candidate=beside("a", 2, "tflite-int8")),),
                observed(SERVES),
                formats=("onnx",),
            ),
            [],
            id="it needs a runtime too",
        ),
        pytest.param(
            decide(
                (A1_BESIDE_2,),
                observed(serving("a", 3, "onnx-int8"), refusals={"a": (refusal("a", 1, "onnx-int8"),)}),
            ),
            [],
            id="beside another version it would prove nothing",
        ),
        pytest.param(
            decide(
                (wanted("a", 2, "onnx-int8"),),
                observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),)),
            ),
            [install("a", 2, "onnx-int8")],
            id="promoted: it is installed, not dropped",
        ),
        pytest.param(
            decide((wanted("a", 1, "onnx-int8", candidate=beside("a", 1, "onnx-int8")),), observed(SERVES)),
            [],
            id="a version is no candidate beside itself",
        ),
    ],
)
def test_the_candidate(steps: list[Step], expected: list[Step]) -> None:
    """The table of the rule."""
    assert steps == expected


def test_what_waited_for_the_network_is_due_when_it_is_back() -> None:
    """A full disk is not mended by a network, nor are the owner's hours over."""
    rests = resting("a")
    rests.add("b", Rest(until=NOW + 1, reason="disk full", cause=Cause.DEVICE, version=1))
    rests.add("c", Rest(until=NOW + 1, reason="quiet hours", cause=Cause.OWNER, version=1))
    rests.forget_cause(Cause.NETWORK)
    steps = decide((B1, A1, wanted("c", 1, "onnx-int8")), rests=rests)
    assert steps == [install("a", 1, "onnx-int8")]


def test_a_rest_that_is_over_is_waited_for_no_more() -> None:
    """Else a loop that has nothing to do would turn without a pause."""
    rests = resting("a")
    assert rests.next_due(NOW) == NOW + 1
    assert rests.next_due(NOW + 1) is None


@pytest.mark.parametrize(
    ("model", "seen", "rests", "settled"),
    [
        pytest.param(A1, observed(SERVES), Rests(), True, id="serves"),
        pytest.param(A1, observed(on_probation(SERVES)), Rests(), True, id="serves on probation"),
        pytest.param(A1, Observed(), resting("a"), False, id="rests"),
        pytest.param(
            A1,
            observed(refusals={"a": (refusal("a", 1, "onnx-int8"), refusal("a", 1, "tflite-int8"))}),
            Rests(),
            True,
            id="refused: nothing is left to try",
        ),
        pytest.param(A1_BESIDE_2, observed(on_probation(SERVES)), Rests(), False, id="a candidate waits"),
        pytest.param(
            A1_BESIDE_2, observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),)), Rests(), True, id="and runs"
        ),
    ],
)
def test_a_generation_is_reached_when_nothing_is_left_to_try(
    model: DesiredModel,
    seen: Observed,
    rests: Rests,
    settled: bool,  # noqa: FBT001
) -> None:
    """Rests that are not over count as something to try."""
    assert is_settled(DesiredState(generation=1, models=(model,)), seen, rests, formats=BOTH) is settled


NAMES = st.sampled_from(["onnx-int8", "onnx-fp32", "tflite-int8"])
MODELS = st.sampled_from(["a", "b", "c"])


@given(
    desired=st.dictionaries(MODELS, st.tuples(st.integers(1, 2), st.lists(NAMES, unique=True), st.booleans())),
    installed=st.dictionaries(MODELS, st.tuples(st.integers(1, 2), NAMES)),
    broken=st.sets(st.tuples(MODELS, st.integers(1, 3), NAMES)),
    formats=st.sets(st.sampled_from(BOTH)),
)
def test_from_anywhere_the_loop_ends_where_it_should(
    desired: dict[str, tuple[int, list[str], bool]],
    installed: dict[str, tuple[int, str]],
    broken: set[tuple[str, int, str]],
    formats: set[Format],
) -> None:
    """Step after step, each model ends at its best flavor that works, or where it was, in a bounded number of steps.

    A candidate ends at its best flavor that works, beside the version it was meant for, and nowhere else.
    """
    models = tuple(
        wanted(model, version, *names, candidate=beside(model, 3, *names) if has_candidate else None)
        for model, (version, names, has_candidate) in desired.items()
    )
    serves = {model: serving(model, *what) for model, what in installed.items()}
    before = dict(serves)
    broken -= {(model, *what) for model, what in installed.items()}  # what serves has passed its check
    candidates: dict[str, str] = {}
    refusals: dict[str, tuple[Refusal, ...]] = dict.fromkeys(desired, ())
    for _ in range(40):
        seen = observed(
            *serves.values(),
            candidates=tuple(staged(model, 3, name) for model, name in candidates.items()),
            refusals=refusals,
        )
        steps = next_steps(
            DesiredState(generation=1, models=models), seen, Rests(), formats=formats, busy=(), now=math.inf
        )
        assert len({step.model for step in steps}) == len(steps)
        for step in steps:
            match step:
                case (
                    Install(model=model, version=version, flavor=chosen)
                    | Stage(model=model, version=version, flavor=chosen)
                ):
                    assert chosen.format in formats
                    if (model, version, chosen.name) in broken:
                        refusals[model] = (*refusals[model], refusal(model, version, chosen.name))
                    elif isinstance(step, Install):
                        serves[model] = serving(model, version, chosen.name)
                        candidates.pop(model, None)
                    else:
                        assert serves[model].version == desired[model][0]
                        candidates[model] = chosen.name
                case DropCandidate(model=model):
                    del candidates[model]
                case Remove(model=model):
                    assert model not in desired
                    del serves[model]
        if not steps:
            break
    else:
        pytest.fail("40 steps were not enough")
    for model, (version, names, has_candidate) in desired.items():
        runnable = [name for name in names if flavor(model, version, name).format in formats]
        working = [name for name in runnable if (model, version, name) not in broken]
        best = serving(model, version, working[0]) if working else before.get(model)
        assert serves.get(model) == best
        beside_it = [name for name in runnable if (model, 3, name) not in broken]
        is_there = has_candidate and best is not None and best.version == version and bool(beside_it)
        assert candidates.get(model) == (beside_it[0] if is_there else None)
    assert set(serves) <= set(desired)
