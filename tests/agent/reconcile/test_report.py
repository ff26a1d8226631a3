"""What a device says it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.state import ModelState, RuntimeInfo
from edgeward_agent.reconcile import Failures, describe_state
from edgeward_agent.reconcile.failures import Rest
from edgeward_agent.reconcile.report import Busy
from tests.agent.reconcile.builders import Shelf, desired_state
from tests.agent.reconcile.test_decision import refused, serving, wanted

if TYPE_CHECKING:
    from edgeward.protocol.model import Format

TFLITE: dict[Format, RuntimeInfo] = {"tflite": RuntimeInfo(name="ai-edge-litert", version="2.3")}
ONNX: dict[Format, RuntimeInfo] = {"onnx": RuntimeInfo(name="onnxruntime", version="1.32")}


def test_a_model_that_serves_names_its_runtime() -> None:
    """Version, flavor and runtime, and no error."""
    active = serving("a", 1, "onnx-int8")
    reported = describe_state(
        desired_state(4, wanted("a", 1, "onnx-int8")),
        {"a": active},
        Failures(),
        runtimes=ONNX,
        busy=None,
        reached=4,
    )
    (model,) = reported.models
    assert reported.generation == 4
    assert (model.version, model.flavor, model.state) == (1, "onnx-int8", ModelState.SERVING)
    assert (model.wanted_version, model.runtime, model.error) == (1, "onnxruntime", "")


def test_a_version_that_fails_is_shown_beside_what_serves() -> None:
    """The operator sees which version runs, which should, and why it does not."""
    failures = refused("a", 2, "onnx-int8")
    desired = desired_state(5, wanted("a", 2, "onnx-int8"))
    reported = describe_state(
        desired,
        {"a": serving("a", 1, "onnx-int8")},
        failures,
        runtimes=ONNX,
        busy=None,
        reached=5,
    )
    (model,) = reported.models
    assert (model.version, model.wanted_version, model.state) == (1, 2, ModelState.FAILED)
    assert model.error == "onnx-int8: wrong numbers"


def test_no_flavor_for_this_device_is_said_with_both_lists() -> None:
    """What the version comes as, and what this device runs."""
    desired = desired_state(1, Shelf().desired_model("a", 1, "onnx-int8", "onnx-fp32"))
    reported = describe_state(desired, {}, Failures(), runtimes=TFLITE, busy=None, reached=1)
    (model,) = reported.models
    assert (model.version, model.state) == (0, ModelState.FAILED)
    assert model.error == "version 1 comes as onnx-int8, onnx-fp32; this device runs tflite"


def test_waiting_for_the_network_is_fetching_and_a_full_disk_is_failed() -> None:
    """Both with their reason: the one ends by itself, the other needs somebody."""
    failures = Failures()
    failures.rest("a", Rest(until=1.0, error="no network", needs_link=True))
    failures.rest("b", Rest(until=1.0, error="the disk is full", needs_link=False))
    desired = desired_state(1, wanted("a", 1, "onnx-int8"), wanted("b", 1, "onnx-int8"))
    first, second = describe_state(desired, {}, failures, runtimes=ONNX, busy=None, reached=0).models
    assert (first.state, first.error) == (ModelState.FETCHING, "no network")
    assert (second.state, second.error) == (ModelState.FAILED, "the disk is full")


def test_an_installation_that_goes_on_is_told_as_its_state() -> None:
    """And a model whose turn has not come is fetching."""
    desired = desired_state(1, wanted("a", 1, "onnx-int8"), wanted("b", 1, "onnx-int8"))
    busy = Busy(model="a", state=ModelState.CHECKING)
    first, second = describe_state(desired, {}, Failures(), runtimes=ONNX, busy=busy, reached=0).models
    assert (first.state, second.state) == (ModelState.CHECKING, ModelState.FETCHING)


def test_what_serves_is_told_even_where_nothing_was_ever_desired() -> None:
    """A device whose memory of the desired state was lost still serves, and says so."""
    (model,) = describe_state(
        None,
        {"a": serving("a", 1, "onnx-int8")},
        Failures(),
        runtimes=ONNX,
        busy=None,
        reached=0,
    ).models
    assert (model.version, model.state, model.wanted_version) == (1, ModelState.SERVING, 1)
