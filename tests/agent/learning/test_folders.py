"""The files of learning, and what a kill may leave of them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.errors import WireError
from edgeward_agent.learning.folders import LearningFiles, RunFiles, is_safe_name
from tests.agent.learning.test_learning import APP

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = Digest("0" * 64)


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    """A run that has begun."""
    run = RunFiles(tmp_path / "learning" / "runs" / "a1")
    run.prepare(bundle=BUNDLE, run_config={"rate": 0.5}, node_config={"partition-id": 3})
    return run


def _states(run: RunFiles) -> list[str]:
    return [path.name for path in (run.path / "states").iterdir()]


def test_settings_come_back(run: RunFiles) -> None:
    """The worker reads what the agent was told."""
    settings = run.settings()
    assert (settings["run_config"], settings["node_config"]) == ({"rate": 0.5}, {"partition-id": 3})


def test_reply_and_state_are_written_together(run: RunFiles) -> None:
    """After a reply the app's state is the one that belongs to it."""
    run.write_reply("m-1", b"reply", b"state")
    assert (run.reply("m-1").read_bytes(), run.state.read_bytes(), _states(run)) == (b"reply", b"state", [])


def test_error_reply_leaves_the_state(run: RunFiles) -> None:
    """What failed has changed nothing."""
    run.write_reply("m-1", b"reply", b"state")
    run.write_reply("m-2", b"error", None)
    assert run.state.read_bytes() == b"state"


def test_state_whose_reply_was_not_written_does_not_count(run: RunFiles) -> None:
    """Killed before the reply was there, the work is done again from the state before."""
    run.write_reply("m-1", b"reply", b"state")
    (run.path / "states" / "m-2.bin").write_bytes(b"state of work that will be done again")
    run.recover()
    assert (run.state.read_bytes(), _states(run)) == (b"state", [])


@pytest.mark.parametrize("is_settled", [False, True], ids=["not pushed", "pushed"])
def test_state_whose_reply_was_written_counts(run: RunFiles, is_settled: bool) -> None:  # noqa: FBT001
    """Killed after the reply was there, the state takes its place at the next start."""
    (run.path / "states" / "m-1.bin").write_bytes(b"state")
    run.reply("m-1").write_bytes(b"reply")
    if is_settled:
        run.settle("m-1")
    run.recover()
    assert (run.state.read_bytes(), _states(run)) == (b"state", [])


def test_settled_message_is_remembered(run: RunFiles) -> None:
    """Its files go, the mark stays."""
    run.message("m-1").write_bytes(b"message")
    run.reply("m-1").write_bytes(b"reply")
    run.settle("m-1")
    assert run.is_answered("m-1")
    assert not run.message("m-1").exists()
    assert not run.reply("m-1").exists()


def test_code_goes_with_its_last_run(tmp_path: Path) -> None:
    """Training code that another run uses stays when a run ends."""
    files = LearningFiles(tmp_path)
    data = pack_bundle(APP)
    digest = digest_of(data)
    files.bundle(digest).write_bytes(data)
    for name in ("a1", "a2"):
        files.run(name).prepare(bundle=digest, run_config={}, node_config={})
    app = files.unpack(digest)
    assert (app / "pyproject.toml").exists()
    files.remove_run("a1")
    assert app.is_dir()
    files.remove_run("a2")
    assert not app.exists()
    assert not files.bundle(digest).exists()


def test_run_of_which_nothing_is_heard_is_forgotten(tmp_path: Path) -> None:
    """Only the stale one goes."""
    files = LearningFiles(tmp_path)
    for name in ("a1", "a2"):
        files.run(name).prepare(bundle=BUNDLE, run_config={}, node_config={})
    old = datetime.now(UTC) - timedelta(days=9)
    os.utime(files.run("a1").path / "run.json", (old.timestamp(), old.timestamp()))
    files.remove_stale(now=datetime.now(UTC), unused_for=timedelta(days=7))
    assert not files.run("a1").path.exists()
    assert files.run("a2").path.exists()


def test_bundle_that_is_none_leaves_no_code(tmp_path: Path) -> None:
    """Half of an app never looks like one."""
    files = LearningFiles(tmp_path)
    files.bundle(BUNDLE).write_bytes(b"junk")
    with pytest.raises(WireError):
        files.unpack(BUNDLE)
    assert not files.app(BUNDLE).exists()


@given(st.text(max_size=140))
def test_safe_name_is_one_part_of_a_path(text: str) -> None:
    """What passes names a file in the folder that is meant, and no other."""
    if is_safe_name(text):
        assert "/" not in text
        assert text not in {"", ".", ".."}
        assert "\0" not in text
        assert len(text.encode()) < 200


def test_worker_ends_when_its_agent_is_gone(run: RunFiles) -> None:
    """A closed pipe is the end of the agent, and of the worker with it, whatever it does."""
    command = [sys.executable, "-m", "edgeward_agent.learning.worker", "--app", str(APP), "--run-dir", str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == -9
