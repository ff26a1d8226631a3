"""The rule of the next step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import Flavor, Signature
from edgeward.protocol.state import DesiredModel, DesiredState
from edgeward_agent.artifacts import ActiveModel
from edgeward_agent.reconcile import Failures, Install, Nothing, Remove, is_settled, next_step
from edgeward_agent.reconcile.failures import Rest

if TYPE_CHECKING:
    from edgeward.protocol.model import Format
    from edgeward_agent.reconcile import Step

NOW = 100.0
BOTH: tuple[Format, ...] = ("onnx", "tflite")


def flavor(model: str, version: int, name: str) -> Flavor:
    model_format: Format = "onnx" if name.startswith("onnx") else "tflite"
    return Flavor(
        name=name,
        format=model_format,
        precision="int8",
        digest=digest_of(f"{model} {version} {name}".encode()),
        total_bytes=10,
        golden_digest=None,
        golden_bytes=0,
        signature=Signature(inputs=(), outputs=()),
    )


def wanted(model: str, version: int, *names: str) -> DesiredModel:
    return DesiredModel(model=model, version=version, flavors=tuple(flavor(model, version, name) for name in names))


def serving(model: str, version: int, name: str) -> ActiveModel:
    artifact = flavor(model, version, name)
    return ActiveModel(
        model=model,
        version=version,
        flavor=name,
        format=artifact.format,
        precision=artifact.precision,
        digest=artifact.digest,
        path=Path("model"),
        golden_path=None,
        signature=artifact.signature,
        slot="a",
        generation=1,
    )


def install(model: str, version: int, name: str) -> Install:
    return Install(model=model, version=version, flavor=flavor(model, version, name))


def decide(
    desired: tuple[DesiredModel, ...] | None,
    installed: tuple[ActiveModel, ...] = (),
    *,
    failures: Failures | None = None,
    on_disk: tuple[str, ...] = (),
    formats: tuple[Format, ...] = BOTH,
    now: float = NOW,
) -> Step:
    return next_step(
        None if desired is None else DesiredState(generation=1, models=desired),
        {active.model: active for active in installed},
        failures or Failures(),
        on_disk=[*on_disk, *(active.model for active in installed)],
        formats=formats,
        now=now,
    )


def refused(model: str, version: int, *names: str) -> Failures:
    failures = Failures()
    for name in names:
        failures.refuse(model, version, flavor(model, version, name), "wrong numbers")
    return failures


def resting(*models: str) -> Failures:
    failures = Failures()
    for model in models:
        failures.rest(model, Rest(until=NOW + 1, error="no network", needs_link=True))
    return failures


A1 = wanted("a", 1, "onnx-int8", "tflite-int8")
B1 = wanted("b", 1, "onnx-int8")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(decide(None, (serving("a", 1, "onnx-int8"),)), Nothing(), id="never told: nothing is touched"),
        pytest.param(decide(()), Nothing(), id="nothing wanted, nothing there"),
        pytest.param(decide((A1,)), install("a", 1, "onnx-int8"), id="the first flavor is the best"),
        pytest.param(
            decide((A1,), formats=("tflite",)), install("a", 1, "tflite-int8"), id="a flavor needs its runtime"
        ),
        pytest.param(decide((A1,), formats=()), Nothing(), id="no runtime at all"),
        pytest.param(decide((A1,), (serving("a", 1, "onnx-int8"),)), Nothing(), id="serves already"),
        pytest.param(
            decide((A1,), (serving("a", 1, "tflite-int8"),)),
            install("a", 1, "onnx-int8"),
            id="a better flavor of the same version",
        ),
        pytest.param(
            decide((wanted("a", 2, "onnx-int8"),), (serving("a", 1, "onnx-int8"),)),
            install("a", 2, "onnx-int8"),
            id="another version",
        ),
        pytest.param(
            decide((A1,), failures=refused("a", 1, "onnx-int8")),
            install("a", 1, "tflite-int8"),
            id="a refused flavor is passed over",
        ),
        pytest.param(
            decide((A1,), failures=refused("a", 1, "onnx-int8", "tflite-int8")), Nothing(), id="all flavors refused"
        ),
        pytest.param(
            decide((A1,), (serving("a", 1, "tflite-int8"),), failures=refused("a", 1, "onnx-int8")),
            Nothing(),
            id="the next best serves while the best is refused",
        ),
        pytest.param(decide((A1, B1), failures=resting("a")), install("b", 1, "onnx-int8"), id="a resting model waits"),
        pytest.param(
            decide((A1,), failures=resting("a"), now=NOW + 1), install("a", 1, "onnx-int8"), id="its rest is over"
        ),
        pytest.param(
            decide((B1,), (serving("a", 1, "onnx-int8"), serving("b", 1, "onnx-int8"))),
            Remove(model="a"),
            id="no longer wanted",
        ),
        pytest.param(decide((), on_disk=("a",)), Remove(model="a"), id="half an installation of what is not wanted"),
        pytest.param(
            decide((B1,), (serving("a", 1, "onnx-int8"),)),
            install("b", 1, "onnx-int8"),
            id="what is wanted comes before what is not",
        ),
    ],
)
def test_next_step(step: Step, expected: Step) -> None:
    """The table of the rule."""
    assert step == expected


def test_a_new_generation_gives_a_refused_flavor_another_try() -> None:
    """A refusal is forgotten then, and only then."""
    failures = refused("a", 1, "onnx-int8", "tflite-int8")
    assert decide((A1,), failures=failures, now=math.inf) == Nothing()
    failures.forget_refusals()
    assert decide((A1,), failures=failures) == install("a", 1, "onnx-int8")


def test_a_refusal_is_for_one_version() -> None:
    """The same flavor of the next version is not blamed."""
    failures = refused("a", 1, "onnx-int8")
    assert decide((wanted("a", 2, "onnx-int8"),), failures=failures) == install("a", 2, "onnx-int8")


def test_what_waited_for_the_network_is_due_when_it_is_back() -> None:
    """A full disk is not mended by a network."""
    failures = resting("a")
    failures.rest("b", Rest(until=NOW + 1, error="disk full", needs_link=False))
    failures.forget_interruptions()
    assert decide((B1, A1), failures=failures) == install("a", 1, "onnx-int8")


def test_a_rest_that_is_over_is_waited_for_no_more() -> None:
    """Else a loop that has nothing to do would turn without a pause."""
    failures = resting("a")
    assert failures.next_due(NOW) == NOW + 1
    assert failures.next_due(NOW + 1) is None


def test_a_resting_model_is_not_settled() -> None:
    """The generation counts as reached only when nothing is left to try."""
    desired = DesiredState(generation=1, models=(A1,))
    assert not is_settled(desired, {}, resting("a"), on_disk=(), formats=BOTH)
    assert is_settled(desired, {}, refused("a", 1, "onnx-int8", "tflite-int8"), on_disk=(), formats=BOTH)


NAMES = st.sampled_from(["onnx-int8", "onnx-fp32", "tflite-int8"])
MODELS = st.sampled_from(["a", "b", "c"])


@given(
    desired=st.dictionaries(MODELS, st.tuples(st.integers(1, 2), st.lists(NAMES, unique=True))),
    installed=st.dictionaries(MODELS, st.tuples(st.integers(1, 2), NAMES)),
    broken=st.sets(st.tuples(MODELS, st.integers(1, 2), NAMES)),
    formats=st.sets(st.sampled_from(BOTH)),
)
def test_from_anywhere_the_loop_ends_where_it_should(
    desired: dict[str, tuple[int, list[str]]],
    installed: dict[str, tuple[int, str]],
    broken: set[tuple[str, int, str]],
    formats: set[Format],
) -> None:
    """Step after step, each model ends at its best flavor that works, or where it was, in a bounded number of steps."""
    state = DesiredState(
        generation=1, models=tuple(wanted(model, version, *names) for model, (version, names) in desired.items())
    )
    serves = {model: serving(model, *what) for model, what in installed.items()}
    before = dict(serves)
    broken -= {(model, *what) for model, what in installed.items()}  # what serves has passed its check
    failures = Failures()
    for _ in range(30):
        step = next_step(state, serves, failures, on_disk=list(serves), formats=formats, now=NOW)
        match step:
            case Install(model=model, version=version, flavor=chosen):
                assert chosen.format in formats
                if (model, version, chosen.name) in broken:
                    failures.refuse(model, version, chosen, "broken")
                else:
                    serves[model] = serving(model, version, chosen.name)
            case Remove(model=model):
                assert model not in desired
                del serves[model]
            case Nothing():
                break
    else:
        pytest.fail("30 steps were not enough")
    for model, (version, names) in desired.items():
        runnable = [name for name in names if flavor(model, version, name).format in formats]
        working = [name for name in runnable if (model, version, name) not in broken]
        best = serving(model, version, working[0]) if working else before.get(model)
        assert serves.get(model) == best
    assert set(serves) <= set(desired)
