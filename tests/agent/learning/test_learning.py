"""Invitations in, replies out, with the worker in its real process."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.agent.learning.post import RUN_ID, Post, answered, learning_on
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

APP = Path(__file__).parents[2] / "apps" / "mean_app"


@pytest.fixture
def post() -> Post:
    """Where messages wait."""
    return Post(APP)


def _workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "edgeward_agent.learning.worker" in child.cmdline()
    ]


def _gone() -> Callable[[], bool]:
    return lambda: not _workers()


async def test_invitation_is_answered(post: Post, tmp_path: Path) -> None:
    """The training code answers in a worker of its own, and no message or reply stays on the device."""
    async with learning_on(post, tmp_path) as learning:
        invitation = post.ask()
        learning.invite(invitation)
        reply = await answered(post, invitation)
    assert reply.metadata.reply_to_message_id == invitation.message_id
    assert reply.content["arrays"]["weight"].numpy().tolist() == [0.5, 0.5]
    run = tmp_path / "learning" / "runs" / RUN_ID
    assert list(run.glob("messages/*")) == list(run.glob("replies/*")) == []


async def test_worker_and_its_state_serve_the_whole_run(post: Post, tmp_path: Path) -> None:
    """One worker answers a run's messages, each with the state that the one before left; the code is fetched once."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.ask(1))
        learning.invite(second := post.ask(2))
        reply = await answered(post, second)
        assert len(_workers()) == 1
    assert reply.content["metrics"]["steps"] == 2
    assert post.fetched == 1


async def test_state_outlives_the_agent(post: Post, tmp_path: Path) -> None:
    """An agent that starts again goes on with the app's state of the run."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(first := post.ask(1))
        await answered(post, first)
    async with learning_on(post, tmp_path) as learning:
        learning.invite(second := post.ask(2))
        reply = await answered(post, second)
    assert reply.content["metrics"]["steps"] == 2


async def test_reply_on_disk_is_pushed_not_computed_again(post: Post, tmp_path: Path) -> None:
    """An agent killed before its reply arrived pushes the same reply when it is invited again."""
    post.broken_pushes = 10**6
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask())
        await wait_until_async(lambda: len(post.pushes) > 1)
    (kept,) = (tmp_path / "learning" / "runs" / RUN_ID / "replies").iterdir()
    computed = kept.read_bytes()
    post.broken_pushes = 0
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation)
        await answered(post, invitation)
        assert _workers() == []
    assert post.replies[invitation.message_id] == computed


async def test_answered_message_is_not_answered_again(post: Post, tmp_path: Path) -> None:
    """An invitation that was under way while its reply arrived costs nothing."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(first := post.ask(1))
        await answered(post, first)
        learning.invite(first)
        learning.invite(second := post.ask(2))
        reply = await answered(post, second)
    assert post.pushes == [first.message_id, second.message_id]
    assert reply.content["metrics"]["steps"] == 2


async def test_broken_pull_goes_on_where_it_stopped(post: Post, tmp_path: Path) -> None:
    """A message whose pull breaks off is pulled from the byte that is missing."""
    post.broken_pulls = 1
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask())
        await answered(post, invitation)
    assert post.offsets[0] == 0
    assert post.offsets[1] > 0


async def test_failing_app_is_an_error_reply(post: Post, tmp_path: Path) -> None:
    """What the training code raises goes back as Flower's error, with its place."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask(client_fault="raise"))
        reply = await answered(post, invitation)
    assert reply.has_error()
    assert reply.error.reason.startswith("ValueError: the client is broken on purpose (client_app.py:")


async def test_crashed_worker_is_an_error_reply(post: Post, tmp_path: Path) -> None:
    """A worker that crashes costs an error reply with its last words, and the next message finds a new one."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(first := post.ask(1, client_fault="crash"))
        reply = await answered(post, first)
        assert reply.error.reason.startswith("the training code's process was killed by SIGABRT")
        assert "the last words of the client" in reply.error.reason
        learning.invite(second := post.ask(2, client_fault="crash"))
        assert (await answered(post, second)).has_content()


async def test_child_of_a_crashed_worker_does_not_hold_the_device(post: Post, tmp_path: Path) -> None:
    """A worker that dies while a process that it forked lives on is found out, and both are gone."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask(client_fault="orphan"))
        reply = await answered(post, invitation)
        assert "killed by SIGABRT" in reply.error.reason
        orphans = [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]
        assert [one.pid for one in orphans] == [one.pid for one in _workers()]


async def test_bundle_that_is_none_is_an_error_reply(post: Post, tmp_path: Path) -> None:
    """Code that can't be unpacked is told to the coordinator as the reply, and nothing of it is on disk."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../outside.py", "")
    post.bundle = buffer.getvalue()
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask())
        reply = await answered(post, invitation)
    assert "reaches outside" in reply.error.reason
    assert not (tmp_path / "learning" / "apps" / "outside.py").exists()


async def test_worker_is_killed_at_the_deadline(post: Post, tmp_path: Path) -> None:
    """Code that computes past the deadline is killed, nothing is pushed, and the next message is answered."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.ask(1, within=timedelta(seconds=2), client_fault="hang"))
        await wait_until_async(_workers)
        await wait_until_async(_gone())
        assert post.pushes == []
        learning.invite(second := post.ask(2))
        await answered(post, second)


async def test_another_deadline_reaches_the_message_under_way(post: Post, tmp_path: Path) -> None:
    """The same invitation with another deadline holds for the code at work."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask(client_fault="hang"))
        await wait_until_async(_workers)
        learning.invite(post.invitation(invitation.message_id, within=timedelta(0)))
        await wait_until_async(_gone())
    assert post.pushes == []


async def test_end_of_a_run_ends_its_worker(post: Post, tmp_path: Path) -> None:
    """When a run ends, code at work for it is killed, and its files and the code that nobody uses are gone."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.ask(1, client_fault="hang"))
        learning.invite(post.ask(2))
        await wait_until_async(_workers)
        learning.end_run(RUN_ID)
        await wait_until_async(lambda: not (tmp_path / "learning" / "runs" / RUN_ID).exists())
        await wait_until_async(_gone())
        await wait_until_async(lambda: not list(tmp_path.glob("learning/apps/*")))
    assert post.pushes == []


async def test_idle_worker_goes(post: Post, tmp_path: Path) -> None:
    """A worker with nothing to do is ended after a while."""
    async with learning_on(post, tmp_path, idle=timedelta(seconds=0.05)) as learning:
        learning.invite(invitation := post.ask())
        await answered(post, invitation)
        await wait_until_async(_gone())


async def test_end_of_the_agent_ends_the_worker(post: Post, tmp_path: Path) -> None:
    """When the agent stops, code at work is killed."""
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.ask(client_fault="hang"))
        await wait_until_async(_workers)
    assert _workers() == []


async def test_refused_reply_is_dropped(post: Post, tmp_path: Path) -> None:
    """A reply that the coordinator does not want any more leaves the device, and is not pushed again."""
    post.refuses = True
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.ask(1))
        await wait_until_async(lambda: post.pushes)
        await wait_until_async(lambda: not list(tmp_path.glob("learning/runs/*/replies/*")))
        post.refuses = False
        learning.invite(second := post.ask(2))
        await answered(post, second)
    assert len(post.pushes) == 2


async def test_message_that_is_none_is_dropped(post: Post, tmp_path: Path) -> None:
    """Bytes that are no message can't be answered; the next message is."""
    post.messages[f"{RUN_ID}-1-x"] = b"\xff" * 50
    async with learning_on(post, tmp_path) as learning:
        learning.invite(post.invitation(f"{RUN_ID}-1-x"))
        learning.invite(second := post.ask(2))
        await answered(post, second)
    assert post.pushes == [second.message_id]


async def test_worker_gets_little_of_the_environment(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the agent's environment stays there; the worker runs at a low priority, in the run's folder."""
    monkeypatch.setenv("SECRET", "of the agent")
    async with learning_on(post, tmp_path) as learning:
        learning.invite(invitation := post.ask())
        await answered(post, invitation)
        (worker,) = _workers()
        assert "SECRET" not in worker.environ()
        assert Path(worker.environ()["HOME"]).is_relative_to(tmp_path)
        assert worker.nice() >= 10
        assert Path(worker.cwd()).is_relative_to(tmp_path)


@pytest.mark.parametrize("field", ["run_id", "message_id"])
async def test_id_that_is_a_path_is_refused(post: Post, tmp_path: Path, field: str) -> None:
    """An invitation whose ids reach for other files is not taken."""
    async with learning_on(post, tmp_path) as learning:
        bad: Any = {field: "../../etc"}
        learning.invite(replace(post.ask(1), **bad))
        learning.invite(good := post.ask(2))
        await answered(post, good)
    assert post.pushes == [good.message_id]


def test_agent_does_not_import_flower() -> None:
    """The agent's own process stays light: only the worker imports Flower."""
    code = "import sys, edgeward_agent.learning; sys.exit(bool({'flwr', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
