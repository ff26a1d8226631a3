"""An agent that has a candidate beside what serves: in the shadow, in an A/B test, and when it fails."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward.protocol.telemetry import ComparisonWindow, LabelWindow, PredictionWindow, decode_batch
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.errors import Misuse
from edgeward_agent.serving import Agent, InvalidInput, ServingError
from edgeward_agent.serving.served import Served
from edgeward_agent.serving.split import is_in_share
from edgeward_agent.telemetry import Outbox, read_trials
from tests.agent.models_on_disk import ArtifactSource, X, accept, scaled
from tests.tiny_models import write_onnx_reshape
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.tensors import Array
    from edgeward_agent.telemetry import FoundTrial

SOON_S = 0.02

# Serves, and ends by the default action of SIGTERM: where it says.
DIES = """
import os, signal, sys
import numpy as np
from edgeward_agent.serving import Agent
from edgeward_compression.runtimes import LoadedModel
from edgeward_agent.serving import lineup
def die(*_args, **_named): os.kill(os.getpid(), signal.SIGTERM)
if sys.argv[2] == "load": lineup.load_model = die
agent = Agent(sys.argv[1])
inputs = np.ones((1, 4), np.float32)
agent.predict("scale", inputs)
if sys.argv[2] == "call": LoadedModel.predict = die
else: die()
agent.predict("scale", inputs)
"""


class Fixture:
    """A device on which version 1 (y = x) serves."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.store = SlotStore(self.state / "models")
        self.source = ArtifactSource()
        self._root = root

    def flavor(self, factor: float) -> Flavor:
        """Of y = factor * x."""
        return self.source.make_flavor(self._root / "source", factor=factor)

    def broken_flavor(self) -> Flavor:
        """Of a model that runs on two rows alone."""
        self._root.joinpath("source").mkdir(exist_ok=True)
        content = write_onnx_reshape(self._root / "source" / "reshape.onnx", to=[2, 4]).read_bytes()
        return self._of(content)

    def unloadable_flavor(self) -> Flavor:
        """Of bytes that are no model."""
        return self._of(b"\x08 no model")

    async def install(self, version: int, flavor: Flavor, *, probation: ProbationRules | None = None) -> None:
        """Make it serve."""
        await self.store.install(
            "scale", version, flavor, fetch=self.source.fetch, check=accept, probation=probation, release=version
        )

    async def stage(self, flavor: Flavor, mode: CandidateMode, share: float = 0.0) -> None:
        """Put version 2 beside it."""
        await self.store.stage("scale", 2, flavor, fetch=self.source.fetch, check=accept, mode=mode, share=share)

    def bodies(self) -> list[Any]:
        """What was recorded."""
        outbox = Outbox(self.state / "outbox.db")
        while outbox.seal():
            pass
        batches = outbox.unacknowledged(1 << 30)
        outbox.close()
        return [record.body for batch in batches for record in decode_batch(batch.payload)]

    def windows(self) -> dict[int, PredictionWindow]:
        """Predictions by version."""
        return {body.version: body for body in self.bodies() if isinstance(body, PredictionWindow)}

    def comparison(self) -> ComparisonWindow:
        """The one window."""
        (window,) = [body for body in self.bodies() if isinstance(body, ComparisonWindow)]
        return window

    def trials(self) -> list[FoundTrial]:
        """What processes told."""
        return read_trials(self.state / "trials" / "scale")

    def _of(self, content: bytes) -> Flavor:
        return replace(
            self.flavor(1.0),
            digest=self.source.add(content),
            total_bytes=len(content),
            golden_digest=None,
            golden_bytes=0,
        )


@pytest.fixture
async def device(tmp_path: Path) -> Any:
    """Version 1 has proven itself."""
    made = Fixture(tmp_path)
    await made.install(1, made.flavor(1.0))
    yield made
    made.store.close()


@pytest.fixture
def agent(device: Fixture) -> Iterator[Agent]:
    """That follows soon."""
    with Agent(device.state, look_every_s=SOON_S) as opened:
        yield opened


def assert_scaled(outputs: dict[str, Array], factor: float, rows: int = len(X)) -> None:
    np.testing.assert_array_equal(outputs["y"], scaled(factor)[:rows])


def die(state: Path, where: str) -> int:
    """A process of the device that ends there; its exit status."""
    return subprocess.run([sys.executable, "-c", DIES, state, where], check=False).returncode


def hold_candidate(monkeypatch: pytest.MonkeyPatch, go_on: Event) -> Event:
    """Make version 2 wait for `go_on` (or raise what is in it); set where it has begun."""
    inside = Event()
    predict = Served.predict

    def slow_predict(served: Served, inputs: dict[str, Array]) -> dict[str, Array]:
        if served.active.version == 2:
            inside.set()
            assert go_on.wait(30)
        return predict(served, inputs)

    monkeypatch.setattr(Served, "predict", slow_predict)
    return inside


class TestShadow:
    """The candidate answers beside, and nobody is served by it."""

    async def test_is_compared_row_by_row(self, device: Fixture, agent: Agent) -> None:
        """A candidate that answers the negative has another highest column wherever there is one."""
        await device.stage(device.flavor(-1.0), CandidateMode.SHADOW)
        inputs = np.vstack([X, np.zeros((1, X.shape[1]), np.float32)])
        answer = agent.answer("scale", inputs)
        assert (answer.version, answer.arm) == (1, "active")
        np.testing.assert_array_equal(answer.outputs["y"], inputs)
        wait_until(agent._shadow._queue.empty)
        agent.close()
        window = device.comparison()
        assert (window.version, window.candidate_version, window.candidate_flavor) == (1, 2, "onnx-fp32")
        assert (window.rows, window.agreed, window.calls, window.errors, window.skipped) == (4, 1, 1, 0, 0)
        assert window.latency.total == 1
        assert set(device.windows()) == {1}

    async def test_delays_no_answer(self, device: Fixture, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """While it hangs answers go on; what finds the queue full is skipped, and all of it is counted."""
        await device.stage(device.flavor(1.0), CandidateMode.SHADOW)
        go_on = Event()
        inside = hold_candidate(monkeypatch, go_on)
        go_on.set()
        agent.answer("scale", X)  # loads, warms and compares
        wait_until(agent._shadow._queue.empty)
        go_on.clear()
        inside.clear()
        for _ in range(30):
            assert_scaled(agent.answer("scale", X).outputs, 1.0)
        assert inside.wait(30)
        go_on.set()
        wait_until(agent._shadow._queue.empty)
        agent.close()
        window = device.comparison()
        assert window.calls + window.skipped == 31
        assert 1 <= window.skipped <= 30 - 8
        assert window.agreed == window.rows == window.calls * len(X)

    async def test_sees_what_was_answered_though_the_caller_goes_on_writing(
        self, device: Fixture, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Arrays are the caller's again the moment that it has its answer."""
        await device.stage(device.flavor(1.0), CandidateMode.SHADOW)
        go_on = Event()
        go_on.set()
        inside = hold_candidate(monkeypatch, go_on)
        agent.answer("scale", X)
        wait_until(agent._shadow._queue.empty)
        go_on.clear()
        inside.clear()
        inputs = X.copy()
        outputs = agent.answer("scale", inputs).outputs
        inputs *= -1
        outputs["y"][:] = 0
        go_on.set()
        wait_until(agent._shadow._queue.empty)
        agent.close()
        window = device.comparison()
        assert window.agreed == window.rows == 2 * len(X)

    async def test_an_error_is_the_candidates_own(self, device: Fixture, agent: Agent) -> None:
        """The answer is given, the error counted."""
        await device.stage(device.broken_flavor(), CandidateMode.SHADOW)
        assert_scaled(agent.answer("scale", X).outputs, 1.0)
        wait_until(agent._shadow._queue.empty)
        agent.close()
        window = device.comparison()
        assert (window.calls, window.errors, window.rows) == (1, 1, 0)
        assert device.windows()[1].errors == 0

    async def test_inputs_that_do_not_fit_are_not_its_concern(self, device: Fixture, agent: Agent) -> None:
        """Nothing was answered that could be compared."""
        await device.stage(device.flavor(1.0), CandidateMode.SHADOW)
        with pytest.raises(InvalidInput):
            agent.answer("scale", X.astype(np.int8))
        agent.close()
        assert not [body for body in device.bodies() if isinstance(body, ComparisonWindow)]

    async def test_comes_and_goes_while_the_process_runs(self, device: Fixture, agent: Agent) -> None:
        """What serves is not loaded anew for it."""
        agent.answer("scale", X)
        served = agent._roster._lineups["scale"].served
        await device.stage(device.flavor(1.0), CandidateMode.SHADOW)
        wait_until(lambda: agent._roster._lineups["scale"].candidate)
        device.store.drop_candidate("scale")
        wait_until(lambda: agent._roster._lineups["scale"].candidate is None)
        assert agent._roster._lineups["scale"].served is served
        assert_scaled(agent.answer("scale", X).outputs, 1.0)

    async def test_that_can_not_be_loaded_leaves_the_answers_alone(self, device: Fixture, agent: Agent) -> None:
        """And the device's agent learns of it."""
        await device.stage(device.unloadable_flavor(), CandidateMode.SHADOW)
        assert_scaled(agent.answer("scale", X).outputs, 1.0)
        (found,) = device.trials()
        assert (found.trial.subject.role, found.trial.subject.version) == ("candidate", 2)
        assert "scale version 2 (onnx-fp32) can't be loaded" in found.trial.problem


class TestSplit:
    """The candidate serves a share."""

    async def test_a_key_has_one_version(self, device: Fixture, agent: Agent) -> None:
        """About a half each here, and each answer says whose it is; counted apart."""
        await device.stage(device.flavor(2.0), CandidateMode.AB, 0.5)
        keys = [f"pump-{number}" for number in range(40)]
        served: dict[str, int] = {}
        for key in keys * 2:
            answer = agent.answer("scale", X, key=key)
            assert_scaled(answer.outputs, float(answer.version))
            assert answer.arm == ("candidate" if answer.version == 2 else "active")
            assert served.setdefault(key, answer.version) == answer.version
        expected = sum(is_in_share("scale", key, 0.5) for key in keys)
        assert 5 < expected < 35
        assert list(served.values()).count(2) == expected
        agent.close()
        windows = device.windows()
        assert (windows[1].calls, windows[2].calls) == (2 * (40 - expected), 2 * expected)

    async def test_without_a_key_the_inputs_decide(self, device: Fixture, agent: Agent) -> None:
        """The same inputs are served by the same version."""
        await device.stage(device.flavor(2.0), CandidateMode.AB, 0.5)
        inputs = [X + np.float32(number) for number in range(20)]
        first = [agent.answer("scale", array).version for array in inputs]
        assert [agent.answer("scale", {"x": array}).version for array in inputs] == first
        assert set(first) == {1, 2}

    @pytest.mark.parametrize(("share", "version"), [(0.0, 1), (1.0, 2)])
    async def test_none_and_all(self, device: Fixture, agent: Agent, share: float, version: int) -> None:
        """At the ends of the scale."""
        await device.stage(device.flavor(2.0), CandidateMode.AB, share)
        assert {agent.answer("scale", X, key=str(key)).version for key in range(50)} == {version}

    async def test_no_request_is_lost_to_a_candidate_that_fails(self, device: Fixture, agent: Agent) -> None:
        """It counts against the candidate, and the version that serves answers."""
        await device.stage(device.broken_flavor(), CandidateMode.AB, 1.0)
        answer = agent.answer("scale", X, key="pump-7")
        assert (answer.version, answer.arm) == (1, "active")
        assert_scaled(answer.outputs, 1.0)
        agent.close()
        windows = device.windows()
        assert (windows[2].calls, windows[2].errors) == (1, 1)
        assert (windows[1].calls, windows[1].errors) == (1, 0)

    async def test_whatever_a_candidate_raises(
        self, device: Fixture, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also what no runtime should."""
        await device.stage(device.flavor(2.0), CandidateMode.AB, 1.0)
        predict = Served.predict

        def raises(served: Served, inputs: dict[str, Array]) -> dict[str, Array]:
            if served.active.version == 2:
                raise SystemError("returned a result with an exception set")
            return predict(served, inputs)

        agent.answer("scale", X)
        monkeypatch.setattr(Served, "predict", raises)
        assert agent.answer("scale", X).version == 1

    async def test_the_promoted_candidate_is_not_loaded_again(self, device: Fixture, agent: Agent) -> None:
        """It serves all from one moment to the next."""
        await device.stage(device.flavor(2.0), CandidateMode.AB, 0.5)
        agent.answer("scale", X)
        lineup = agent._roster._lineups["scale"]
        assert lineup.candidate is not None
        candidate = lineup.candidate.served
        await device.install(2, device.flavor(2.0))
        agent.refresh()
        assert agent._roster._lineups["scale"].served is candidate
        assert_scaled(agent.answer("scale", X).outputs, 2.0)


class TestTrials:
    """What a process tells of a version on trial."""

    async def test_counts_and_errors_are_told_soon(self, device: Fixture, agent: Agent) -> None:
        """Within a look, not within a flush; the coordinator's counts of an error too."""
        await device.install(2, device.broken_flavor(), probation=ProbationRules())
        agent.answer("scale", X[:2])
        with pytest.raises(ServingError):
            agent.answer("scale", X)
        wait_until(lambda: [found.trial.calls for found in device.trials()] == [2])
        (found,) = device.trials()
        assert found.is_running
        assert (found.trial.subject.role, found.trial.subject.version) == ("active", 2)
        assert (found.trial.predictions, found.trial.errors) == (2, 1)
        wait_until(lambda: device.windows().get(2))

    async def test_inputs_that_do_not_fit_count_for_nothing(self, device: Fixture, agent: Agent) -> None:
        """No caller can send a version back with them, whatever is wrong with them."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        agent.answer("scale", X)
        for inputs in (X[:, :2], X.astype(np.int8), {}, {"pixels": X}):
            with pytest.raises(InvalidInput):
                agent.answer("scale", inputs)
        agent.close()
        (found,) = device.trials()
        assert (found.trial.predictions, found.trial.calls, found.trial.errors) == (len(X), 1, 0)
        window = device.windows()[2]
        assert (window.predictions, window.calls, window.errors) == (len(X), 1, 0)

    @pytest.mark.parametrize(("where", "crashed"), [("call", True), ("load", True), ("between", False)])
    async def test_a_process_that_dies_has_crashed_only_where_the_model_was_at_work(
        self,
        device: Fixture,
        where: str,
        crashed: bool,  # noqa: FBT001 - a case of the table
    ) -> None:
        """In a call or a load; a program that SIGTERM ends between two calls says nothing of the version."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        assert die(device.state, where) == -signal.SIGTERM
        (found,) = device.trials()
        assert (found.is_running, found.trial.ended, found.crashed) == (False, False, crashed)

    async def test_an_orderly_end_is_no_crash(self, device: Fixture, agent: Agent) -> None:
        """The counts stay."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        agent.answer("scale", X)
        agent.close()
        (found,) = device.trials()
        assert (found.is_running, found.crashed, found.trial.predictions) == (False, False, len(X))

    async def test_a_probation_that_ends_well_costs_no_load(self, device: Fixture, agent: Agent) -> None:
        """The same model serves on, and is on trial no more."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        agent.answer("scale", X)
        served = agent._roster._lineups["scale"].served
        assert served.trial is not None
        device.store.commit("scale")
        wait_until(lambda: served.trial is None)
        assert agent._roster._lineups["scale"].served is served

    async def test_a_version_that_can_not_be_loaded_is_told(self, device: Fixture, agent: Agent) -> None:
        """While the former one goes on serving in this process."""
        agent.answer("scale", X)
        await device.install(2, device.unloadable_flavor(), probation=ProbationRules())
        wait_until(lambda: [found for found in device.trials() if found.trial.problem])
        assert_scaled(agent.answer("scale", X).outputs, 1.0)

    async def test_a_runtime_that_is_missing_is_not_the_versions_fault(self, device: Fixture) -> None:
        """Another process may have it."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        only: list[Format] = ["tflite"]
        with Agent(device.state, formats=only) as other, pytest.raises(Exception, match="may run tflite"):
            other.answer("scale", X)
        (found,) = device.trials()
        assert (found.trial.problem, found.crashed) == ("", False)

    async def test_without_records_there_is_no_witness(self, device: Fixture) -> None:
        """Nothing is written at all."""
        await device.install(2, device.flavor(2.0), probation=ProbationRules())
        with Agent(device.state, record=False) as silent:
            silent.answer("scale", X)
            assert device.trials() == []


class TestFeedback:
    """How good answers were."""

    async def test_is_recorded(self, device: Fixture, agent: Agent) -> None:
        """Summed by version and flavor, also of versions that serve no more."""
        agent.feedback("scale", version=1, labelled=10, correct=9, flavor="onnx-fp32")
        agent.feedback("scale", version=1, labelled=5, correct=5, flavor="onnx-fp32")
        agent.feedback("scale", version=7, labelled=1, correct=0)
        agent.close()
        windows = [body for body in device.bodies() if isinstance(body, LabelWindow)]
        assert [(window.version, window.flavor, window.labelled, window.correct) for window in windows] == [
            (1, "onnx-fp32", 15, 14),
            (7, "", 1, 0),
        ]

    @pytest.mark.parametrize(
        ("model", "version", "labelled", "correct"),
        [("scale", 0, 1, 1), ("scale", 1, 1, 2), ("scale", 1, 1, -1), ("../scale", 1, 1, 1)],
    )
    def test_that_can_not_be_is_misuse(
        self, tmp_path: Path, model: str, version: int, labelled: int, correct: int
    ) -> None:
        """Before anything is counted."""
        tmp_path.joinpath("state").mkdir()
        with Agent(tmp_path / "state") as agent, pytest.raises(Misuse):
            agent.feedback(model, version=version, labelled=labelled, correct=correct)
