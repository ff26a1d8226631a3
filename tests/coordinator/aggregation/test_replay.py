"""A run outlives its process and its coordinator, to the same bits, and asks no device twice."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward_coordinator.aggregation import RunState
from tests.coordinator.aggregation.fleet import APPS, DEVICES, Fleet, Site, end_of, kill_serverapp
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array

# Two of three devices are drawn in each round, so a replay that drew others would show.
_STRATEGIES = [pytest.param("FedAvg", id="FedAvg"), pytest.param("FedAdam", id="FedAdam")]


def _config(strategy: str) -> dict[str, str]:
    return {"strategy": f'"{strategy}"', "fraction": "0.67"}


async def _calm(folder: Path, strategy: str) -> dict[str, Array]:
    """What a run comes to that nothing disturbs."""
    site, fleet = Site(folder), Fleet(APPS / "mean_app")
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, site.start(runs, fleet, min_devices=3, run_config=_config(strategy)))
    assert record.state is RunState.FINISHED
    return site.learned("mean")


def _assert_same_bits(first: dict[str, Array], second: dict[str, Array]) -> None:
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes()
        assert np.isfinite(array).all()


def _all_but_the_first_in(call: int) -> Fleet:
    """A fleet of which only one device answers in a call, until it is released."""
    answers: list[str] = []

    def holds(device_id: str, number: int) -> bool:
        if number == call and not answers:
            answers.append(device_id)
        return number == call and device_id not in answers

    return Fleet(APPS / "mean_app", holds=holds)


def _assert_nobody_asked_twice(fleet: Fleet) -> None:
    assert fleet.asked_again == []
    assert set(fleet.trained.values()) == {1}


@pytest.mark.parametrize("strategy", _STRATEGIES)
async def test_process_killed_in_the_middle_of_a_call(site: Site, tmp_path: Path, strategy: str) -> None:
    """Killed with some replies of a call accepted, the run waits for the others only, and comes to the same bits."""
    fleet = _all_but_the_first_in(3)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, min_devices=3, run_config=_config(strategy))
        await wait_until_async(lambda: any("-3-" in one for one in fleet.acknowledged))
        await kill_serverapp(run_id)
        fleet.release()
        record = await end_of(runs, run_id)
    assert (record.state, record.rounds_done) == (RunState.FINISHED, 3)
    assert [entry.answered for entry in record.rounds_log] == [2] * 6
    _assert_nobody_asked_twice(fleet)
    _assert_same_bits(site.learned("mean"), await _calm(tmp_path / "calm", strategy))


@pytest.mark.parametrize("strategy", _STRATEGIES)
async def test_process_killed_between_calls(site: Site, tmp_path: Path, strategy: str) -> None:
    """Killed with every call closed, the run goes on with the next one, and comes to the same bits."""
    fleet = _all_but_the_first_in(2)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, min_devices=3, run_config=_config(strategy))
        await wait_until_async(lambda: any("-2-" in one for one in fleet.acknowledged))
        fleet.is_online = False
        fleet.release()
        await wait_until_async(lambda: runs.get(run_id).activity == "waiting for devices: 0 online")
        await kill_serverapp(run_id)
        fleet.is_online = True
        record = await end_of(runs, run_id)
    assert (record.state, record.rounds_done) == (RunState.FINISHED, 3)
    assert [entry.call for entry in record.rounds_log] == [1, 2, 3, 4, 5, 6]
    _assert_nobody_asked_twice(fleet)
    _assert_same_bits(site.learned("mean"), await _calm(tmp_path / "calm", strategy))


async def test_replay_sees_the_devices_that_were_online_then(site: Site) -> None:
    """A device that came later does not change what the rounds before asked, when they are gone through again."""
    latecomer = DEVICES[2]
    fleet = Fleet(APPS / "mean_app", offline={latecomer}, holds=lambda _, call: call in {1, 3})
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=2)
        await wait_until_async(lambda: len(fleet.asked_in(1)) == 2)
        fleet.offline.clear()
        fleet.release()
        fleet.holds = lambda _, call: call == 3
        await wait_until_async(lambda: len(fleet.asked_in(3)) == 3)
        await kill_serverapp(run_id)
        fleet.release()
        record = await end_of(runs, run_id)
    assert [(entry.call, entry.asked) for entry in record.rounds_log] == [(1, 2), (2, 3), (3, 3), (4, 3)]
    _assert_nobody_asked_twice(fleet)


async def test_coordinator_restarts_in_the_middle_of_a_call(site: Site, tmp_path: Path) -> None:
    """Replies are taken before the run's process is up again, and the run comes to the same bits."""
    fleet = _all_but_the_first_in(3)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, min_devices=3, run_config=_config("FedAvg"))
        await wait_until_async(lambda: any("-3-" in one for one in fleet.acknowledged))
    waiting = [one for device in DEVICES for one in site.runs(fleet).pending_invitations(device)]
    assert [one.message_id for one in waiting] == [
        one for one in fleet.invitations if "-3-" in one and one not in fleet.acknowledged
    ]
    fleet.release()
    await wait_until_async(lambda: all(one in fleet.acknowledged for one in fleet.invitations))
    assert site.runs(fleet).get(run_id).state is RunState.RUNNING
    async with site.coordinator(fleet) as runs:
        record = await end_of(runs, run_id)
    assert record.state is RunState.FINISHED
    _assert_nobody_asked_twice(fleet)
    _assert_same_bits(site.learned("mean"), await _calm(tmp_path / "calm", "FedAvg"))


async def test_open_call_that_outlived_its_deadline_gets_another(site: Site) -> None:
    """After a restart an open call waits at least a minute more, and the devices are told so."""
    fleet = Fleet(APPS / "mean_app", holds=lambda _, call: call == 1)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=1, round_timeout_s=5.0)
        await wait_until_async(lambda: len(fleet.asked_in(1)) == 3)
        first = {one.message_id: one.deadline for one in fleet.invitations.values()}
        await kill_serverapp(run_id)
        await wait_until_async(lambda: all(fleet.invitations[one].deadline > first[one] for one in first))
        fleet.release()
        record = await end_of(runs, run_id)
    assert record.state is RunState.FINISHED
    assert record.rounds_log[0].answered == 3


async def test_app_that_asks_something_else_on_replay_goes_on(site: Site) -> None:
    """Where a replay asks what is not in the journal, the journal is set aside and the run goes on with new calls."""
    fleet = Fleet(APPS / "mean_app", holds=lambda _, call: call == 2)
    config = {"server-fault": '"restless"', "fraction": "0.67"}
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=1, min_devices=3, run_config=config)
        await wait_until_async(lambda: len(fleet.asked_in(2)) == 2)
        await kill_serverapp(run_id)
        record = await end_of(runs, run_id)
    assert record.state is RunState.FINISHED
    # Call 1 was closed and is on record; call 2 was set aside; 3 and 4 are new, with all devices.
    assert [(entry.call, entry.asked) for entry in record.rounds_log] == [(1, 2), (3, 3), (4, 3)]
    assert "asks something else" in (site.run_folder(run_id) / "log.txt").read_text()


async def test_pulled_replies_come_again_in_their_groups(site: Site) -> None:
    """An app that pulls itself gets on replay what it got, in the same groups, then the rest."""
    fleet = Fleet(APPS / "pull_app", devices=DEVICES[:2], held={DEVICES[1]})
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, run_config={"rounds": "1"})
        pulls = site.run_folder(run_id) / "pulls.jsonl"
        await wait_until_async(lambda: pulls.exists() and pulls.read_text().count(DEVICES[0]) == 2)
        before = [len(json.loads(line)) for line in pulls.read_text().splitlines()]
        await kill_serverapp(run_id)
        fleet.release()
        record = await end_of(runs, run_id)
    assert record.state is RunState.FINISHED
    groups = json.loads((site.run_folder(run_id) / "work" / "groups.json").read_text())
    assert [len(group) for group in groups] == [*before, 1]
    assert groups[-1] == [1]
    _assert_nobody_asked_twice(fleet)


async def test_run_that_ended_while_the_coordinator_was_killed_is_concluded(site: Site, tmp_path: Path) -> None:
    """Killed between the app's end and the run's, the coordinator misses no round and registers the result once."""
    fleet = Fleet(APPS / "mean_app", holds=lambda _, call: call == 2)
    async with site.coordinator(fleet) as runs:
        run_id = site.start(runs, fleet, rounds=1)
        await wait_until_async(lambda: len(fleet.asked_in(2)) == 3)
        shutil.copytree(site.run_folder(run_id) / "calls" / "000001", tmp_path / "call")
        fleet.release()
        record = await end_of(runs, run_id)
        await wait_until_async(lambda: not (site.run_folder(run_id) / "calls").exists())
    shutil.copytree(tmp_path / "call", site.run_folder(run_id) / "calls" / "000001")
    with site.database.write() as connection:
        connection.exec_driver_sql("UPDATE run SET state = 'running', version = NULL, ended_at = NULL")
        connection.exec_driver_sql("DELETE FROM run_round WHERE call = 1")
    async with site.coordinator(fleet) as runs:
        again = await end_of(runs, run_id)
    assert (again.state, again.version) == (RunState.FINISHED, 1)
    assert again.rounds_log == record.rounds_log
    assert len(site.registry.list_versions("mean")) == 1
