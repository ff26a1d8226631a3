"""`enroll`, `predict` and `status` as a person at the device meets them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.protocol.state import ProbationRules
from edgeward.protocol.telemetry import LabelWindow, PredictionWindow, decode_batch
from edgeward_agent.artifacts import SlotStore
from edgeward_agent.cli import main
from edgeward_agent.telemetry import Outbox
from tests.agent.samples import X, scale_model
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Flavor

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def coordinator() -> Iterator[SimulatedCoordinator]:
    """On a thread of its own, since a command runs its own loop."""
    with SimulatedCoordinator().in_thread() as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def install(
    state: Path,
    *,
    model: str = "scale",
    factor: float = 2.0,
    version: int = 1,
    probation: ProbationRules | None = None,
) -> None:
    """Put a model in its slot as the agent does, without a network."""
    shelf = SimulatedCoordinator()
    state.mkdir(exist_ok=True)
    (flavor,) = scale_model(shelf, state.parent, factor=factor).flavors

    async def fetch(digest: Digest, offset: int) -> AsyncIterator[bytes]:
        yield shelf.artifacts[digest][offset:]

    async def check(_path: object, _flavor: Flavor, _golden: object) -> None:
        """Passes."""

    store = SlotStore(state / "models")
    try:
        asyncio.run(store.install(model, version, flavor, fetch=fetch, check=check, probation=probation))
    finally:
        store.close()


def predict(state: Path, source: Path, *options: str) -> int:
    return run("predict", "--state-dir", state, "--model", "scale", "--input", source, *options)


def answer(captured: Captured) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(captured.readouterr().out)
    return decoded


def test_enroll_says_who_the_device_is_now(coordinator: SimulatedCoordinator, state: Path, capsys: Captured) -> None:
    """Id, name, group, and until when; labels and name went with the request."""
    text = coordinator.enrollment_string()
    assert run("enroll", text, "--state-dir", state, "--name", "pump-7", "--label", "site=a", "--label", "line=4") == 0
    ((device_id, request),) = coordinator.enrolled.items()
    assert (request.device_name, dict(request.labels)) == ("pump-7", {"site": "a", "line": "4"})
    assert f"enrolled as {device_id} (pump-7) in group lab" in capsys.readouterr().out


def test_enroll_with_a_wrong_fingerprint_is_one_sentence(
    coordinator: SimulatedCoordinator, state: Path, capsys: Captured
) -> None:
    """On stderr, with status 1, and the token stays here."""
    assert (
        run("enroll", coordinator.enrollment_string(fingerprint=SimulatedCA().fingerprint), "--state-dir", state) == 1
    )
    error = capsys.readouterr().err
    assert error.startswith("edgeward-agent: the server at")
    assert "the token was not sent" in error
    assert error.count("\n") == 1
    assert coordinator.received_tokens == []


@pytest.mark.parametrize("text", ["token", "ew1.", "ew1.%%%", "ew1.WyJhIl0"])
def test_enroll_with_a_damaged_string_is_misuse(text: str, state: Path, capsys: Captured) -> None:
    """Status 2, before anything is made or asked."""
    assert run("enroll", text, "--state-dir", state) == 2
    assert "enrollment string" in capsys.readouterr().err
    assert not state.exists()


def test_enroll_twice_is_misuse(coordinator: SimulatedCoordinator, state: Path, capsys: Captured) -> None:
    """And says how to do it anyway."""
    assert run("enroll", coordinator.enrollment_string(uses=2), "--state-dir", state) == 0
    assert run("enroll", coordinator.enrollment_string(), "--state-dir", state) == 2
    assert "--force" in capsys.readouterr().err
    assert run("enroll", coordinator.enrollment_string(), "--state-dir", state, "--force") == 0


def test_run_without_enrollment_says_what_to_do(state: Path, capsys: Captured) -> None:
    """Status 2."""
    assert run("run", "--state-dir", state) == 2
    assert "edgeward-agent enroll" in capsys.readouterr().err


def test_the_state_directory_may_come_from_the_environment(
    state: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EDGEWARD_STATE_DIR."""
    monkeypatch.setenv("EDGEWARD_STATE_DIR", str(state))
    assert run("status", "--json") == 0
    assert answer(capsys)["state_dir"] == str(state)


def test_a_relative_state_directory_is_where_the_caller_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The worker of the training code stands elsewhere, and must find the same files."""
    monkeypatch.chdir(tmp_path)
    assert run("status", "--state-dir", "state", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state_dir"] == str(tmp_path / "state")


def test_predict_from_npz_by_name(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """The answer says which model, version and flavor gave it; no daemon runs, no network is there."""
    install(state, version=3)
    np.savez(tmp_path / "x.npz", x=X)
    assert predict(state, tmp_path / "x.npz") == 0
    assert answer(capsys) == {
        "model": "scale",
        "version": 3,
        "flavor": "onnx-fp32",
        "arm": "active",
        "outputs": {"y": (X * 2).tolist()},
    }


def test_predict_takes_a_single_array_under_any_name(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """`numpy.savez(path, array)` calls it arr_0."""
    install(state)
    np.savez(tmp_path / "x.npz", X)
    assert predict(state, tmp_path / "x.npz") == 0
    assert answer(capsys)["outputs"]["y"] == (X * 2).tolist()


@pytest.mark.parametrize("content", [X.tolist(), {"x": X.tolist()}], ids=["bare", "by name"])
def test_predict_from_json_takes_the_models_dtype(
    state: Path, tmp_path: Path, capsys: Captured, content: object
) -> None:
    """JSON has no float32."""
    install(state)
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert predict(state, tmp_path / "x.json") == 0
    assert answer(capsys)["outputs"]["y"] == (X * 2).tolist()


def test_predict_writes_npz(state: Path, tmp_path: Path) -> None:
    """With the outputs by name."""
    install(state)
    np.savez(tmp_path / "x.npz", X)
    assert predict(state, tmp_path / "x.npz", "--output", str(tmp_path / "y.npz")) == 0
    with np.load(tmp_path / "y.npz") as outputs:
        np.testing.assert_array_equal(outputs["y"], X * 2)


def test_predict_says_which_version_answered_beside_a_file_too(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """On stdout, with where the outputs are."""
    install(state, version=3)
    np.savez(tmp_path / "x.npz", X)
    predict(state, tmp_path / "x.npz", "--output", str(tmp_path / "y.npz"), "--key", "pump-7")
    facts = answer(capsys)
    assert (facts["version"], facts["arm"], facts["output"]) == (3, "active", str(tmp_path / "y.npz"))


def test_feedback_is_counted_in_the_telemetry(state: Path) -> None:
    """As labels of the version."""
    install(state, version=3)
    options = ("--model", "scale", "--version", "3", "--labelled", "10", "--correct", "9")
    assert run("feedback", "--state-dir", state, *options) == 0
    outbox = Outbox(state / "outbox.db")
    outbox.seal()
    records = [record for batch in outbox.unacknowledged(1 << 20) for record in decode_batch(batch.payload)]
    outbox.close()
    (window,) = [record.body for record in records if isinstance(record.body, LabelWindow)]
    assert (window.model, window.version, window.labelled, window.correct) == ("scale", 3, 10, 9)


def test_feedback_on_a_model_that_is_not_here_is_misuse(state: Path, capsys: Captured) -> None:
    """A typo would be labels that never come back."""
    install(state, version=3)
    options = ("--model", "scales", "--version", "3", "--labelled", "10", "--correct", "9")
    assert run("feedback", "--state-dir", state, *options) == 2
    assert "no model 'scales'" in capsys.readouterr().err


def test_feedback_that_can_not_be_is_misuse(state: Path, capsys: Captured) -> None:
    """One sentence with the numbers."""
    install(state, version=3)
    options = ("--model", "scale", "--version", "3", "--labelled", "10", "--correct", "11")
    assert run("feedback", "--state-dir", state, *options) == 2
    assert "11 right of 10 labelled" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("feedback", *["--model", "a", "--version", "1", "--labelled", "1", "--correct", "1"]), ("link",)]
)
def test_a_state_directory_that_is_not_there_is_misuse(state: Path, capsys: Captured, command: tuple[str, ...]) -> None:
    """It is not made: nobody would read what is in it."""
    assert run(*command, "--state-dir", state) == 2
    assert "there is no state directory" in capsys.readouterr().err
    assert not state.exists()


def test_the_link_is_what_was_said_last(state: Path, capsys: Captured) -> None:
    """By a script of the network, any number of times."""
    state.mkdir()
    told = []
    for words in ((), ("metered",), ("metered",), (), ("unmetered",), ("unmetered",), ()):
        assert run("link", *words, "--state-dir", state) == 0
        told.append(capsys.readouterr().out)
    assert told == ["unmetered\n", "", "", "metered\n", "", "", "unmetered\n"]


def test_status_tells_what_is_on_trial(state: Path, capsys: Captured) -> None:
    """A probation, and what runs beside; and whether the link is metered."""
    install(state)
    install(state, version=2, factor=3.0, probation=ProbationRules())
    run("link", "metered", "--state-dir", state)
    assert run("status", "--state-dir", state) == 0
    text = capsys.readouterr().out
    assert "scale: version 2 (onnx-fp32" in text
    assert "on probation" in text
    assert "link             metered" in text


def test_predict_is_counted_in_the_telemetry(state: Path, tmp_path: Path) -> None:
    """One call of two rows."""
    install(state)
    np.savez(tmp_path / "x.npz", X)
    predict(state, tmp_path / "x.npz")
    outbox = Outbox(state / "outbox.db")
    outbox.seal()
    records = [record for batch in outbox.unacknowledged(1 << 20) for record in decode_batch(batch.payload)]
    outbox.close()
    (window,) = [record.body for record in records if isinstance(record.body, PredictionWindow)]
    assert (window.model, window.calls, window.predictions) == ("scale", 1, 2)


def test_predict_with_an_unknown_model_says_which_are_there(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """By name."""
    install(state, model="digits")
    np.savez(tmp_path / "x.npz", X)
    assert predict(state, tmp_path / "x.npz") == 2
    assert "there is no model 'scale' on this device; installed here: digits" in capsys.readouterr().err


def test_predict_on_an_empty_device_says_so(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """And makes nothing."""
    np.savez(tmp_path / "x.npz", X)
    assert predict(state, tmp_path / "x.npz") == 2
    assert "no model is installed in" in capsys.readouterr().err
    assert not state.exists()


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", {"x": X.astype(np.float64)}, "'x' takes float32, got float64"),
        ("x.npz", {"x": X[:, :3]}, "'x' takes shape [?, 4], got [2, 3]"),
        ("x.npz", {"x": X, "z": X}, "the model takes inputs ['x'], got ['x', 'z']"),
        ("x.npz", b"no zip", "not a readable npz file"),
        ("x.json", b"{", "is no JSON"),
        ("x.json", b'{"z": [[1]]}', "names ['z'], the model takes ['x']"),
        ("x.json", b'[["a", "b", "c", "d"]]', "'x' is no array of float32"),
        ("x.json", b"[[1, 2], [3]]", "'x' is no array of float32"),
        ("x.json", b"[[1, 2, 3]]", "'x' takes shape [?, 4], got [1, 3]"),
        ("x.json", b"null", "'x' is no array of float32"),
    ],
)
def test_predict_with_inputs_that_do_not_fit_is_misuse(
    state: Path, tmp_path: Path, capsys: Captured, name: str, content: Any, message: str
) -> None:
    """One sentence that says what the model takes and what it got."""
    install(state)
    source = tmp_path / name
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        _save(source, **content)
    assert predict(state, source) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_predict_without_the_file_is_misuse(state: Path, tmp_path: Path, capsys: Captured) -> None:
    """Its path is named."""
    install(state)
    assert predict(state, tmp_path / "x.npz") == 2
    assert f"{tmp_path / 'x.npz'} can't be read: No such file" in capsys.readouterr().err


def test_status_of_an_empty_device(state: Path, capsys: Captured) -> None:
    """Says what to do first, and makes nothing."""
    assert run("status", "--state-dir", state) == 0
    assert "not enrolled; run edgeward-agent enroll STRING" in capsys.readouterr().out
    assert not state.exists()


def test_status_of_an_enrolled_device(
    coordinator: SimulatedCoordinator, state: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Identity, certificate, models and outbox, from the disk alone."""
    run("enroll", coordinator.enrollment_string(), "--state-dir", state, "--name", "pump-7")
    install(state, version=3)
    np.savez(tmp_path / "x.npz", X)
    predict(state, tmp_path / "x.npz")
    capsys.readouterr()
    assert run("status", "--state-dir", state, "--json") == 0
    facts = answer(capsys)
    assert facts["identity"]["name"] == "pump-7"
    assert facts["identity"]["coordinator"] == coordinator.device_address
    assert facts["identity"]["certificate_expired"] is False
    assert [(model["model"], model["version"], model["flavor"]) for model in facts["models"]] == [
        ("scale", 3, "onnx-fp32")
    ]
    assert facts["outbox"]["records"] == 1
    assert run("status", "--state-dir", state) == 0
    assert "scale: version 3 (onnx-fp32" in capsys.readouterr().out
