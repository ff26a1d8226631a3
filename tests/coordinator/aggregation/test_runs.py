"""Runs from start to end, with the ServerApp in its real process."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from edgeward.protocol.digests import digest_of
from edgeward_coordinator.aggregation import RunState
from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound
from tests import flower_messages
from tests.coordinator.aggregation.fleet import APPS, DEVICES, Fleet, Site, end_of, processes_of
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from edgeward.protocol.state import RunInvitation


async def test_unmodified_app_becomes_a_version(site: Site) -> None:
    """An ordinary app runs to its end; its arrays are a version with lineage to the run, its rounds are on record."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, min_devices=3))
        await wait_until_async(lambda: fleet.ended)
    assert (record.state, record.error) == (RunState.FINISHED, "")
    assert (record.model, record.version, record.rounds, record.rounds_done) == ("mean", 1, 3, 3)
    assert [(entry.number, entry.phase) for entry in record.rounds_log] == [
        (number, phase) for number in (1, 2, 3) for phase in ("train", "evaluate")
    ]
    assert all((entry.asked, entry.answered, entry.failed) == (3, 3, 0) for entry in record.rounds_log)
    assert record.rounds_log[0].metrics["num-examples"] == 6
    version = site.registry.get_version("mean")
    assert version.lineage.run_id == record.run_id
    assert version.lineage.code_digest == record.bundle_digest
    arrays = site.learned("mean")
    assert list(arrays) == ["weight", "bias"]
    assert fleet.ended == sorted(DEVICES)
    np.testing.assert_array_equal(np.load(site.run_folder(record.run_id) / "work" / "final.npy"), arrays["weight"])


async def test_what_an_app_prints_disturbs_nothing(site: Site) -> None:
    """Prints and writes to standard output, which was a pipe to the server, end in the run's log."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, rounds=1))
    assert record.state is RunState.FINISHED
    log = (site.run_folder(record.run_id) / "log.txt").read_text()
    assert "the ServerApp prints" in log
    assert "writes to the descriptor" in log


async def test_updates_do_not_outlive_the_run(site: Site) -> None:
    """Messages and replies are gone once the run has ended; what the app saved stays."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=1)
        await end_of(runs, run_id)
        await wait_until_async(lambda: not (site.run_folder(run_id) / "calls").exists())
    assert (site.run_folder(run_id) / "work" / "final.npy").exists()


async def test_run_waits_for_its_devices(site: Site) -> None:
    """A run with too few devices online stays pending, says for what it waits, and begins once they are there."""
    fleet = Fleet(APPS / "mean_app", is_online=False)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=1, min_devices=2)
        await wait_until_async(lambda: runs.get(run_id).activity == "waiting for devices: 0 of 2 online")
        assert runs.get(run_id).state is RunState.PENDING
        fleet.is_online = True
        record = await end_of(runs, run_id)
    assert record.state is RunState.FINISHED
    assert record.started_at is not None


async def test_failing_app_fails_its_run(site: Site) -> None:
    """What the ServerApp raises is the run's error, with its place."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, run_config={"server-fault": '"raise"'}))
    assert record.state is RunState.FAILED
    assert record.error.startswith("ValueError: the app is broken on purpose (server_app.py:")


@pytest.mark.parametrize("fault", ["die", "orphan"])
async def test_process_that_keeps_dying_fails_its_run(site: Site, fault: str) -> None:
    """A process that dies three times without closing a call is given up with the reason, and leaves none behind."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, run_config={"server-fault": f'"{fault}"'})
        # A pipe that a forked process holds is waited for a little, each time.
        record = await end_of(runs, run_id)
    assert record.state is RunState.FAILED
    assert record.error == "the ServerApp's process ended with status 3, 3 times in a row"
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if run_id in str(one.info["cmdline"])] == []


async def test_app_without_arrays_finishes_with_a_remark(site: Site) -> None:
    """An app that returns no arrays finishes, and makes no version."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, run_config={"server-fault": '"no-arrays"'}))
    assert (record.state, record.version) == (RunState.FINISHED, 0)
    assert record.activity == "the app returned no arrays"


async def test_client_errors_are_counted_and_the_run_goes_on(site: Site) -> None:
    """A device whose app raises counts as failed; the others' replies make the round."""
    fleet = Fleet(APPS / "mean_app")
    broken = DEVICES[0]

    def break_one(device: str, _: RunInvitation, reply: bytes) -> bytes:
        return reply if device != broken else flower_messages.as_error(reply, "no data here")

    fleet.tamper = break_one
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, rounds=1))
    assert record.state is RunState.FINISHED
    assert [(entry.answered, entry.failed) for entry in record.rounds_log] == [(2, 1), (2, 1)]


async def test_silent_device_does_not_hold_a_round(site: Site) -> None:
    """At the deadline a round closes with who has answered."""
    fleet = Fleet(APPS / "mean_app", held={DEVICES[2]})
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, rounds=1, round_timeout_s=2.0))
        late = next(one for one in fleet.invitations.values() if one.message_id.endswith(DEVICES[2]))
    assert record.state is RunState.FINISHED
    assert [(entry.asked, entry.answered, entry.failed) for entry in record.rounds_log] == [(3, 2, 0), (3, 2, 0)]
    assert 0 < (late.deadline - record.created_at).total_seconds() < 30


async def test_stopping_ends_a_run_in_the_middle(site: Site) -> None:
    """A stopped run's process is gone, its devices are told, and stopping it again changes nothing."""
    fleet = Fleet(APPS / "mean_app", holds=lambda _, call: call == 2)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet)
        await wait_until_async(lambda: fleet.asked_in(2))
        record = runs.stop(run_id, actor="ann")
        assert record.state is RunState.STOPPED
        await wait_until_async(lambda: fleet.ended and not processes_of(run_id))
        assert runs.stop(run_id, actor="ann").ended_at == record.ended_at
        assert runs.pending_invitations(DEVICES[0]) == []


async def test_ended_run_can_not_be_stopped(site: Site) -> None:
    """Stopping a run that has failed is refused with its state."""
    fleet = Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, run_config={"server-fault": '"raise"'})
        await end_of(runs, run_id)
        with pytest.raises(FailedPrecondition, match="failed"):
            runs.stop(run_id, actor="ann")


async def test_messages_to_one_node_twice_and_pulled_replies(site: Site) -> None:
    """An app that pushes and pulls itself, two messages to one node among them, gets every reply once."""
    fleet = Fleet(APPS / "pull_app", devices=DEVICES[:2])
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet))
    assert (record.state, record.error) == (RunState.FINISHED, "")
    groups = json.loads((site.run_folder(record.run_id) / "work" / "groups.json").read_text())
    assert sorted(number for group in groups for number in group) == [0, 1, 10, 11, 1000, 1010]


async def test_silence_is_an_error_to_an_app_that_pulls(site: Site) -> None:
    """Past the deadline an app that pulls itself gets an error for who stayed silent, so that it need not wait."""
    fleet = Fleet(APPS / "pull_app", devices=DEVICES[:2], held={DEVICES[1]})
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, run_config={"rounds": "1"}, round_timeout_s=2.0)
        record = await end_of(runs, run_id)
    groups = json.loads((site.run_folder(record.run_id) / "work" / "groups.json").read_text())
    assert sorted(str(entry) for group in groups for entry in group) == ["0", "1000", "error"]


async def test_app_of_the_older_api_runs(site: Site) -> None:
    """A NumPyClient with a strategy in a server_fn runs to its end."""
    fleet = Fleet(APPS / "legacy_app", devices=DEVICES[:2])
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet))
    assert (record.state, record.error) == (RunState.FINISHED, "")
    fits = [entry for entry in record.rounds_log if entry.phase == "train"]
    assert sorted(entry.number for entry in fits) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param({"run_config": {"lr": "1"}}, "no setting 'lr'.*fraction", id="unknown setting"),
        pytest.param({"run_config": {"fraction": "half"}}, "no value for the setting", id="no TOML"),
        pytest.param({"group": "a/b"}, "can't name a group", id="group"),
        pytest.param({"model": "../m"}, "can't name a model", id="model"),
        pytest.param({"round_timeout_s": -1.0}, "can't last", id="timeout"),
        pytest.param({"round_timeout_s": float("nan")}, "can't last", id="timeout that is no number"),
        pytest.param({"seed": 2**63}, "is no seed", id="seed"),
        pytest.param({"min_devices": 2**32}, "can't wait for", id="devices"),
    ],
)
def test_bad_request_leaves_nothing(site: Site, arguments: dict[str, Any], complaint: str) -> None:
    """A request that can't be right is refused with the value, and no folder and no row stays."""
    fleet = Fleet(APPS / "mean_app")
    runs = site.runs(fleet)
    with pytest.raises(InvalidArgument, match=complaint):
        site.start(runs, fleet, **arguments)
    assert list((site.folder / "runs").iterdir()) == []
    assert runs.list_runs() == []


def test_bundle_that_is_none_is_refused(site: Site) -> None:
    """Bytes that are no bundle are refused before anything starts."""
    path = site.folder / "junk"
    path.write_bytes(b"junk" * 100)
    digest, _ = site.registry.store_artifact(path)
    fleet = Fleet(APPS / "mean_app")
    with pytest.raises(InvalidArgument, match="no bundle of a Flower app"):
        site.start(site.runs(fleet), fleet, bundle_digest=digest)


def test_bundle_that_was_not_uploaded_is_not_found(site: Site) -> None:
    """A digest that nobody uploaded is said to be missing."""
    fleet = Fleet(APPS / "mean_app")
    with pytest.raises(NotFound, match="upload it first"):
        site.start(site.runs(fleet), fleet, bundle_digest=digest_of(b"x"))


async def test_process_ends_when_its_server_is_gone(site: Site) -> None:
    """A closed pipe is the end of the server, and of the ServerApp's process with it."""
    fleet = Fleet(APPS / "mean_app", is_online=False)
    folder = site.run_folder(site.start(site.runs(fleet), fleet))
    command = [sys.executable, "-m", "edgeward_coordinator.aggregation.serverapp_process", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=folder / "work",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert b"PopulationAsked" in await process.stdout.readline()
    process.stdin.close()
    _, log = await process.communicate()
    assert process.returncode == -9
    assert b"the ServerApp prints" in log


async def test_run_whose_folder_is_gone_fails(site: Site) -> None:
    """A run of which only the row is left is failed with the reason, and holds up nothing."""
    fleet = Fleet(APPS / "mean_app", is_online=False)
    run_id = site.start(site.runs(fleet), fleet)
    shutil.rmtree(site.run_folder(run_id))
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, run_id)
    assert record.state is RunState.FAILED
    assert "is gone" in record.error
