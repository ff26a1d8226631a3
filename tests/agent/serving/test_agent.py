"""Tests of `edgeward_agent.serving`."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.telemetry import PredictionWindow, decode_batch
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.errors import Misuse
from edgeward_agent.serving import Agent, InvalidInput, ServingError, UnknownModel
from edgeward_agent.serving.served import Served
from edgeward_agent.telemetry import Outbox
from tests.agent.models_on_disk import ArtifactSource, X, accept, install_scale, scaled
from tests.tiny_models import write_onnx_reshape
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from edgeward.protocol.model import Flavor, Format
    from edgeward.protocol.tensors import Array

    Install = Callable[..., Coroutine[None, None, None]]

SOON_S = 0.02


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[SlotStore]:
    """The daemon's side of it."""
    opened = SlotStore(state / "models")
    yield opened
    opened.close()


@pytest.fixture
def install(store: SlotStore, tmp_path: Path) -> Install:
    """Installs y = factor * x."""
    source = ArtifactSource()

    async def install_one(version: int, factor: float, model: str = "scale") -> None:
        await install_scale(store, source, tmp_path / "source", version=version, factor=factor, model=model)

    return install_one


@pytest.fixture
def agent(state: Path) -> Iterator[Agent]:
    """An agent that follows soon."""
    with Agent(state, look_every_s=SOON_S) as opened:
        yield opened


def windows_in(state: Path) -> list[PredictionWindow]:
    """What was recorded."""
    outbox = Outbox(state / "outbox.db")
    while outbox.seal():
        pass
    batches = outbox.unacknowledged(1 << 30)
    outbox.close()
    records = [record for batch in batches for record in decode_batch(batch.payload)]
    return [record.body for record in records if isinstance(record.body, PredictionWindow)]


def output_of(script: str, *arguments: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def assert_scaled(outputs: dict[str, Array], factor: float) -> None:
    """The answer of a model of this factor to X."""
    np.testing.assert_array_equal(outputs["y"], scaled(factor))


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
async def test_predicts_what_the_model_computes(
    store: SlotStore, state: Path, tmp_path: Path, model_format: Format
) -> None:
    """On the runtime of its format, with the array alone or by its name."""
    source = ArtifactSource()
    flavor = source.make_flavor(tmp_path / "source", factor=3.0, format=model_format)
    await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
    with Agent(state) as agent:
        assert_scaled(agent.predict("scale", X), 3.0)
        assert_scaled(agent.predict("scale", {"x": X}), 3.0)


async def test_needs_neither_daemon_nor_outbox(install: Install, store: SlotStore, state: Path) -> None:
    """A process of its own predicts while nothing else of the agent runs."""
    await install(1, 2.0)
    store.close()
    script = (
        "import sys, numpy as np; from edgeward_agent.serving import Agent\n"
        "with Agent(sys.argv[1]) as agent: print(agent.predict('scale', np.ones((1, 4), np.float32))['y'].sum())"
    )
    assert output_of(script, str(state)) == "8.0\n"
    (window,) = windows_in(state)
    assert (window.model, window.version, window.flavor, window.predictions) == ("scale", 1, "onnx-fp32", 1)


class TestMisuse:
    """What is asked wrongly."""

    def test_nothing_is_installed(self, agent: Agent, state: Path) -> None:
        """The sentence says where was looked."""
        with pytest.raises(UnknownModel, match=rf"no model 'scale' serves on this device; .* {state} yet"):
            agent.predict("scale", X)

    async def test_another_model_is_installed(self, install: Install, agent: Agent) -> None:
        """The sentence names what there is."""
        await install(1, 2.0)
        with pytest.raises(UnknownModel, match=r"no model 'digits' .* what serves here: scale"):
            agent.predict("digits", X)

    @pytest.mark.parametrize("name", ["../scale", ".", "", "a\0b"])
    def test_name_that_is_none(self, agent: Agent, name: str) -> None:
        """A path is no name."""
        with pytest.raises(UnknownModel):
            agent.predict(name, X)

    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            (X.astype(np.float64), r"scale version 1 \(onnx-fp32\): 'x' takes float32, got float64"),
            (X[:, :3], r"'x' takes shape \[\?, 4\], got \[3, 3\]"),
            ({"pixels": X}, r"the model takes inputs \['x'\], got \['pixels'\]"),
            ({}, r"the model takes inputs \['x'\], got \[\]"),
            (np.float32(1), r"'x' takes shape"),
        ],
        ids=["dtype", "shape", "name", "nothing", "scalar"],
    )
    async def test_inputs_that_do_not_fit(
        self, install: Install, agent: Agent, inputs: Array | dict[str, Array], words: str
    ) -> None:
        """The sentence says what the model takes and what it got."""
        await install(1, 2.0)
        with pytest.raises(InvalidInput, match=words):
            agent.predict("scale", inputs)

    async def test_closed_agent(self, install: Install, state: Path) -> None:
        """Closing twice is once; predicting afterwards is refused."""
        await install(1, 2.0)
        agent = Agent(state)
        agent.predict("scale", X)
        agent.close()
        agent.close()
        with pytest.raises(Misuse, match="closed"):
            agent.predict("scale", X)


class TestSwap:
    """A new version in the middle of requests."""

    async def test_is_followed_without_a_call(self, install: Install, agent: Agent) -> None:
        """A process that only predicts serves the new version soon after its activation."""
        await install(1, 1.0)
        assert_scaled(agent.predict("scale", X), 1.0)
        await install(2, 2.0)
        wait_until(lambda: np.array_equal(agent.predict("scale", X)["y"], scaled(2.0)))

    async def test_refresh_loads_all_that_serves(self, install: Install, state: Path) -> None:
        """After it the next prediction of any model is that of the newest version, without a load."""
        await install(1, 1.0)
        await install(1, 5.0, "other")
        with Agent(state, look_every_s=3600) as agent:
            assert_scaled(agent.predict("scale", X), 1.0)
            await install(2, 2.0)
            assert_scaled(agent.predict("scale", X), 1.0)
            agent.refresh()
            assert_scaled(agent.predict("scale", X), 2.0)
            assert set(agent._roster._lineups) == {"scale", "other"}

    async def test_drops_no_request(self, install: Install, agent: Agent, state: Path) -> None:
        """Four threads predict through many swaps: each answer is that of a version, and each is counted."""
        await install(1, 1.0)
        stop = Event()
        answers: list[list[float]] = []

        def predict_until_stopped() -> int:
            calls = 0
            seen: list[float] = []
            answers.append(seen)
            while not stop.is_set():
                outputs = agent.predict("scale", X)
                factor = float(outputs["y"][0, 1])
                assert_scaled(outputs, factor)
                if not seen or seen[-1] != factor:
                    seen.append(factor)
                calls += 1
            return calls

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(predict_until_stopped) for _ in range(4)]
            try:
                for version in range(2, 7):
                    await install(version, float(version))
                    agent.refresh()
            finally:
                stop.set()
            calls = sum(future.result() for future in running)
        assert_scaled(agent.predict("scale", X), 6.0)
        assert all(seen == sorted(seen) for seen in answers)
        agent.close()
        windows = windows_in(state)
        assert sum(window.calls for window in windows) == calls + 1
        assert sum(window.errors for window in windows) == 0
        assert len({window.version for window in windows}) > 1

    async def test_running_request_ends_on_its_version(
        self, install: Install, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The old model is closed after its last user and not before."""
        await install(1, 1.0)
        agent.predict("scale", X)
        inside, go_on = Event(), Event()
        predict = Served.predict

        def slow_predict(served: Served, inputs: dict[str, Array]) -> dict[str, Array]:
            if served.active.version == 1:
                inside.set()
                assert go_on.wait(30)
            return predict(served, inputs)

        monkeypatch.setattr(Served, "predict", slow_predict)
        results: list[dict[str, Array]] = []
        thread = Thread(target=lambda: results.append(agent.predict("scale", X)))
        thread.start()
        assert inside.wait(30)
        old = agent._roster._lineups["scale"].served
        await install(2, 2.0)
        agent.refresh()
        assert_scaled(agent.predict("scale", X), 2.0)
        go_on.set()
        thread.join()
        assert_scaled(results[0], 1.0)
        assert not old.enter()
        with pytest.raises(Exception, match="closed"):
            old.predict({"x": X})

    async def test_removed_model_is_unknown(self, install: Install, store: SlotStore, agent: Agent) -> None:
        """What no longer serves on the device no longer serves in the process."""
        await install(1, 1.0)
        agent.predict("scale", X)
        store.remove("scale")
        agent.refresh()
        with pytest.raises(UnknownModel):
            agent.predict("scale", X)

    async def test_version_that_can_not_be_loaded_changes_nothing(
        self, install: Install, store: SlotStore, agent: Agent, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The old one goes on serving, the caller of refresh is told, and the log says it once."""
        await install(1, 1.0)
        agent.predict("scale", X)
        source = ArtifactSource()
        flavor = flavor_of(source, tmp_path, b"\x08 no model")
        await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)
        wait_until(lambda: "can't be loaded" in caplog.text)
        with pytest.raises(ServingError, match=r"scale version 2 \(onnx-fp32\) can't be loaded"):
            agent.refresh()
        assert_scaled(agent.predict("scale", X), 1.0)
        assert caplog.text.count("can't be loaded") == 1
        await install(3, 3.0)
        agent.refresh()
        assert_scaled(agent.predict("scale", X), 3.0)


def flavor_of(source: ArtifactSource, folder: Path, content: bytes) -> Flavor:
    """A flavor of any bytes."""
    flavor = source.make_flavor(folder / "other")
    return replace(flavor, digest=source.add(content), total_bytes=len(content), golden_digest=None, golden_bytes=0)


async def test_damaged_model_falls_back_without_a_daemon(install: Install, state: Path) -> None:
    """Power came back, no daemon has run: the process finds the damage itself and serves the former version."""
    await install(1, 1.0)
    await install(2, 2.0)
    os.truncate(state / "models" / "scale" / "slots" / "b" / "model.onnx", 20)
    with Agent(state) as agent:
        assert_scaled(agent.predict("scale", X), 1.0)


async def test_nothing_sound_is_said(install: Install, state: Path) -> None:
    """The sentence says what is damaged."""
    await install(1, 1.0)
    os.truncate(state / "models" / "scale" / "slots" / "a" / "model.onnx", 20)
    with Agent(state) as agent, pytest.raises(ServingError, match="slot a of scale is damaged"):
        agent.predict("scale", X)


class TestRecording:
    """What is counted."""

    async def test_rows_calls_errors_and_latency(self, install: Install, state: Path) -> None:
        """By version; inputs that don't fit are the caller's error, and of no version."""
        await install(1, 1.0)
        with Agent(state, look_every_s=3600) as agent:
            for rows in (1, 2, 3):
                agent.predict("scale", X[:rows])
            with pytest.raises(InvalidInput):
                agent.predict("scale", X.astype(np.int8))
            await install(2, 2.0)
            agent.refresh()
            agent.predict("scale", X)
        first, second = windows_in(state)
        assert (first.version, first.predictions, first.calls, first.errors) == (1, 6, 3, 0)
        assert first.latency.total == 3
        assert (second.version, second.predictions, second.calls, second.errors) == (2, 3, 1, 0)

    async def test_failure_of_the_runtime_is_an_error(self, store: SlotStore, state: Path, tmp_path: Path) -> None:
        """Inputs that fit and a run that fails: the caller is told, the error is counted."""
        source = ArtifactSource()
        content = write_onnx_reshape(tmp_path / "reshape.onnx", to=[2, 4]).read_bytes()
        await store.install("scale", 1, flavor_of(source, tmp_path, content), fetch=source.fetch, check=accept)
        with Agent(state) as agent:
            agent.predict("scale", X[:2])
            with pytest.raises(ServingError, match=r"scale version 1 \(onnx-fp32\) failed: onnxruntime"):
                agent.predict("scale", X)
        (window,) = windows_in(state)
        assert (window.predictions, window.calls, window.errors) == (2, 2, 1)

    async def test_counts_are_written_by_themselves(self, install: Install, state: Path) -> None:
        """A process that never closes its agent is seen all the same."""
        await install(1, 1.0)
        with Agent(state, look_every_s=SOON_S, flush_every_s=SOON_S) as agent:
            agent.predict("scale", X)
            outbox = Outbox(state / "outbox.db")
            wait_until(lambda: outbox.size().records == 1)
            outbox.close()

    async def test_can_be_left_out(self, install: Install, state: Path) -> None:
        """Then nothing is opened and nothing written."""
        await install(1, 1.0)
        with Agent(state, record=False) as agent:
            agent.predict("scale", X)
        assert not (state / "outbox.db").exists()

    async def test_locked_outbox_delays_no_prediction(self, install: Install, state: Path) -> None:
        """While another process holds the database, predictions go on and their counts wait."""
        await install(1, 1.0)
        Outbox(state / "outbox.db").size()
        blocker = sqlite3.connect(state / "outbox.db", isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        agent = Agent(state, look_every_s=SOON_S, flush_every_s=SOON_S)
        for _ in range(50):
            agent.predict("scale", X)
        assert agent._outbox is not None
        wait_until(lambda: agent._outbox is not None and "locked" in agent._outbox.problem)
        agent.predict("scale", X)
        blocker.execute("ROLLBACK")
        blocker.close()
        agent.close()
        assert sum(window.calls for window in windows_in(state)) == 51

    async def test_state_directory_that_takes_no_write_stops_nothing(
        self, install: Install, state: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the outbox can't be opened at all, predictions go on and the log says what is lost."""
        await install(1, 1.0)
        (state / "outbox.db").mkdir()
        with Agent(state, look_every_s=SOON_S, flush_every_s=SOON_S) as agent:
            assert_scaled(agent.predict("scale", X), 1.0)
        assert "1 telemetry records are lost" in caplog.text


def test_importing_the_agent_loads_no_runtime() -> None:
    """A process pays for a runtime when it loads a model of that format, and never for the heavy libraries."""
    script = (
        "import sys; import edgeward_agent.serving, edgeward_agent.artifacts, edgeward_agent.telemetry\n"
        "heavy = {'onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'torch', 'flwr', 'grpc', 'sqlalchemy',"
        " 'pydantic', 'requests', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert output_of(script) == "[]\n"
