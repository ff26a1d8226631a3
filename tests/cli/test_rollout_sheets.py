"""A rollout as facts, tables and lines."""

from __future__ import annotations

from edgeward.v1 import deployment_pb2
from edgeward_server.cli.rollout_sheets import (
    change_in_words,
    devices_by_interest,
    gates_sheet,
    news_in_words,
    phases_sheet,
    rollout_devices_sheet,
    rollouts_sheet,
)
from edgeward_server.terminal.formats import format_instant
from edgeward_server.terminal.sheets import sheet_as_text
from tests.cli.a_rollout import a_rollout


def changed(rollout: deployment_pb2.Rollout) -> deployment_pb2.Rollout:
    copy = deployment_pb2.Rollout()
    copy.CopyFrom(rollout)
    return copy


def test_a_rollout_is_a_row_with_its_change_and_phase() -> None:
    """From which version to which, and how far."""
    row = rollouts_sheet([a_rollout()], format_instant).rows[0]
    assert row[:5] == ("0123456789abcdef", "lab", "digits:1 → 2", "running", "quarter (2/3)")


def test_a_group_that_ran_nothing_comes_from_nothing() -> None:
    """Version 0 is none."""
    assert change_in_words(deployment_pb2.Rollout(model="digits", to_version=1)) == "digits:nothing → 1"


def test_a_phase_says_where_its_devices_are() -> None:
    """How many are done, and what the others do."""
    lines = sheet_as_text(phases_sheet(a_rollout())).splitlines()
    assert lines[3].split()[-6:] == ["1/3", "1", "on", "probation,", "1", "updating"]


def test_a_gate_shows_its_figures_and_its_evidence() -> None:
    """Value, limit, and how much of what is needed is there."""
    assert gates_sheet(a_rollout().phases[1]).rows[1] == (
        "accuracy",
        "pending",
        "0.9",
        "0.8",
        "12/30",
        "12 of 30 labels",
    )


def test_who_failed_comes_first() -> None:
    """Then who is under way, then who is done."""
    rollout = a_rollout()
    rollout.devices.add(name="device-9", state="silent")
    assert [device.state for device in devices_by_interest(rollout)] == ["silent", "probation", "updating", "succeeded"]
    assert rollout_devices_sheet(rollout, format_instant).rows[1][2] == "quarter"


def test_the_first_news_is_all_of_it() -> None:
    """Who begins to watch in the middle misses nothing that counts."""
    lines = news_in_words(None, a_rollout())
    assert lines[0] == "rollout 0123456789abcdef: digits:1 → 2 in lab"
    assert "device-1: probation" in lines
    assert "phase canary (1 device or 5 %): passed" in lines
    assert "quarter, gate accuracy: pending, 12 of 30 labels" in lines
    assert not any("everyone" in line for line in lines)
    assert lines[-1] == "rollout running"


def test_what_did_not_change_is_no_news() -> None:
    """Not even where figures moved under the same verdict."""
    before, after = a_rollout(), a_rollout()
    after.phases[1].gates[1].evidence = 20
    assert news_in_words(before, after) == []


def test_a_change_of_each_kind_is_a_line_of_its_own() -> None:
    """A device, a gate, a phase, the rollout, with the reasons."""
    before = a_rollout()
    after = changed(before)
    after.devices[1].state, after.devices[1].error = "failed", "the golden set differs"
    after.phases[1].gates[0].state, after.phases[1].gates[0].text = "failed", "1 of 2 failed"
    after.phases[1].state = "failed"
    after.state, after.reason = "rolling_back", "install: 1 of 2 failed"
    assert news_in_words(before, after) == [
        "device-1: failed, the golden set differs",
        "quarter, gate install: failed, 1 of 2 failed",
        "phase quarter (25 % of the devices): failed",
        "rollout rolling_back: install: 1 of 2 failed",
    ]


def test_the_news_of_a_step_stand_in_the_order_in_which_they_came_about() -> None:
    """The phase that passed, the one that begins with its devices, then its gates."""
    before = a_rollout()
    after = changed(before)
    after.phases[1].gates[1].state, after.phases[1].state = "open", "passed"
    after.phases[2].state, after.phase = "running", 2
    after.phases[2].gates.add(name="install", state="pending", text="0 of 8")
    after.devices.add(device_id="new", name="device-7", state="updating")
    assert news_in_words(before, after) == [
        "quarter, gate accuracy: open, 12 of 30 labels",
        "phase quarter (25 % of the devices): passed",
        "phase everyone (all devices): running",
        "device-7: updating",
        "everyone, gate install: pending, 0 of 8",
    ]
