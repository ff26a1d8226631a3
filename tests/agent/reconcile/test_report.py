"""What a device says it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.state import (
    CandidateMode,
    DesiredModel,
    ModelState,
    ReportedCandidate,
    ReportedModel,
    RuntimeInfo,
)
from edgeward_agent.reconcile import Cause, Observed, Rest, Rests, describe_state
from edgeward_agent.reconcile.report import Busy
from tests.agent.reconcile.builders import desired_state
from tests.agent.reconcile.facts import beside, observed, on_probation, refusal, resting, serving, staged, wanted

if TYPE_CHECKING:
    from edgeward.protocol.model import Format

TFLITE: dict[Format, RuntimeInfo] = {"tflite": RuntimeInfo(name="ai-edge-litert", version="2.3")}
ONNX: dict[Format, RuntimeInfo] = {"onnx": RuntimeInfo(name="onnxruntime", version="1.32")}

SERVES = serving("a", 1, "onnx-int8")
A1 = wanted("a", 1, "onnx-int8")
A2 = wanted("a", 2, "onnx-int8")
A1_BESIDE_2 = wanted("a", 1, "onnx-int8", candidate=beside("a", 2, "onnx-int8"))


def describe(
    model: DesiredModel,
    seen: Observed,
    *,
    rests: Rests | None = None,
    runtimes: dict[Format, RuntimeInfo] | None = None,
    busy: dict[str, Busy] | None = None,
) -> ReportedModel:
    """The one model."""
    state = describe_state(
        desired_state(4, model), seen, rests or Rests(), runtimes=runtimes or ONNX, busy=busy or {}, reached=4
    )
    assert state.generation == 4
    (reported,) = state.models
    return reported


def test_a_model_that_serves_names_its_runtime() -> None:
    """Version, flavor, runtime and release, and no error."""
    assert describe(A1, observed(SERVES)) == ReportedModel(
        model="a",
        version=1,
        flavor="onnx-int8",
        state=ModelState.SERVING,
        wanted_version=1,
        runtime="onnxruntime",
        release=7,
    )


def test_a_version_that_may_still_be_sent_back_is_on_probation() -> None:
    """It serves all the same."""
    model = describe(A1, observed(on_probation(SERVES)))
    assert (model.version, model.state, model.error) == (1, ModelState.PROBATION, "")


def test_a_version_that_fails_is_shown_beside_what_serves() -> None:
    """The operator sees which version runs, which should, and why it does not; also after a local roll-back."""
    model = describe(A2, observed(SERVES, refusals={"a": (refusal("a", 2, "onnx-int8", reason="7 of 9 failed"),)}))
    assert (model.version, model.wanted_version, model.state) == (1, 2, ModelState.FAILED)
    assert model.error == "onnx-int8: 7 of 9 failed"


def test_what_was_refused_under_an_older_release_is_no_failure() -> None:
    """The operator has decided anew."""
    model = describe(A2, observed(SERVES, refusals={"a": (refusal("a", 2, "onnx-int8", release=6),)}))
    assert (model.state, model.error) == (ModelState.FETCHING, "")


def test_no_flavor_for_this_device_is_said_with_both_lists() -> None:
    """What the version comes as, and what this device runs."""
    model = describe(wanted("a", 1, "onnx-int8", "onnx-fp32"), Observed(), runtimes=TFLITE)
    assert (model.version, model.state) == (0, ModelState.FAILED)
    assert model.error == "version 1 comes as onnx-int8, onnx-fp32; this device runs tflite"


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        (Cause.NETWORK, ModelState.FETCHING),
        (Cause.DEVICE, ModelState.FAILED),
        (Cause.OWNER, ModelState.WAITING),
    ],
    ids=lambda value: str(value.value),
)
def test_a_rest_is_told_by_who_can_end_it(cause: Cause, state: ModelState) -> None:
    """The network ends by itself, a full disk needs somebody, and the owner's hours are no failure."""
    model = describe(A1, Observed(), rests=resting("a", cause=cause, reason="why"))
    assert (model.state, model.error) == (state, "why")


def test_a_rest_of_another_version_is_not_this_ones() -> None:
    """What is said of the candidate is not said of the version."""
    model = describe(A1, Observed(), rests=resting("a", version=2, cause=Cause.DEVICE, reason="why"))
    assert (model.state, model.error) == (ModelState.FETCHING, "")


def test_an_installation_that_goes_on_is_told_as_its_state() -> None:
    """Also while the former version serves."""
    model = describe(A2, observed(SERVES), busy={"a": Busy(version=2, state=ModelState.CHECKING)})
    assert (model.version, model.state) == (1, ModelState.CHECKING)


def test_what_serves_is_told_even_where_nothing_was_ever_desired() -> None:
    """A device whose memory of the desired state was lost still serves, and says so."""
    (model,) = describe_state(None, observed(SERVES), Rests(), runtimes=ONNX, busy={}, reached=0).models
    assert (model.version, model.state, model.wanted_version) == (1, ModelState.SERVING, 1)


def candidate_of(seen: Observed, *, rests: Rests | None = None, busy: dict[str, Busy] | None = None) -> tuple[str, str]:
    """State and error of the candidate."""
    candidate = describe(A1_BESIDE_2, seen, rests=rests, busy=busy).candidate
    assert isinstance(candidate, ReportedCandidate)
    assert (candidate.version, candidate.mode) == (2, CandidateMode.SHADOW)
    return candidate.state.value, candidate.error


NO_ROOM = Rests()
NO_ROOM.add("a", Rest(until=1.0, reason="the disk is full", cause=Cause.DEVICE, version=2))


@pytest.mark.parametrize(
    ("told", "state", "error"),
    [
        pytest.param(candidate_of(observed(SERVES)), "fetching", "", id="on its way"),
        pytest.param(
            candidate_of(observed(SERVES), busy={"a": Busy(version=2, state=ModelState.CHECKING)}),
            "checking",
            "",
            id="being tested",
        ),
        pytest.param(
            candidate_of(observed(SERVES, candidates=(staged("a", 2, "onnx-int8"),))), "serving", "", id="takes part"
        ),
        pytest.param(
            candidate_of(observed(on_probation(SERVES))),
            "waiting",
            "version 1, beside which it should run, is on probation",
            id="after the probation",
        ),
        pytest.param(
            candidate_of(observed()),
            "waiting",
            "version 1, beside which it should run, does not serve",
            id="nothing to run beside",
        ),
        pytest.param(
            candidate_of(observed(SERVES, refusals={"a": (refusal("a", 2, "onnx-int8"),)})),
            "failed",
            "onnx-int8: wrong numbers",
            id="refused",
        ),
        pytest.param(candidate_of(observed(SERVES), rests=NO_ROOM), "failed", "the disk is full", id="no room"),
    ],
)
def test_a_candidate_is_told_apart(told: tuple[str, str], state: str, error: str) -> None:
    """Whatever becomes of it."""
    assert told == (state, error)


def test_a_candidates_failure_does_not_touch_what_serves() -> None:
    """The version beside it goes on as before."""
    model = describe(A1_BESIDE_2, observed(SERVES), rests=NO_ROOM)
    assert (model.state, model.error) == (ModelState.SERVING, "")
