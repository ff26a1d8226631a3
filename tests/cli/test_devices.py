"""The fleet by command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.enrollment import parse_enrollment_string
from tests.cli.enrolling import enroll

if TYPE_CHECKING:
    from tests.cli.conftest import Coordinator, Operator


def test_the_enrollment_string_holds_all_that_a_device_needs(admin: Operator, coordinator: Coordinator) -> None:
    """Where, whom to trust, and the secret."""
    result = admin("devices", "token", "--group", "shop")
    parts = parse_enrollment_string(result.out)
    assert (parts.address, parts.ca_fingerprint) == (coordinator.address, coordinator.endpoints["ca_fingerprint"])
    assert f"edgeward-agent enroll {result.out.strip()}" in result.err


def test_devices_may_be_told_another_address(admin: Operator) -> None:
    """Where the operator comes in by another way than the devices."""
    result = admin("devices", "token", "--group", "shop", "--address", "edge.example.org")
    assert parse_enrollment_string(result.out).address == "edge.example.org:7443"


def test_a_device_that_enrolled_is_listed(admin: Operator) -> None:
    """By its group and name, as not seen yet."""
    device_id = enroll(admin, group="listed", name="kiosk-1")
    (device,) = admin.document("devices", "list", "--group", "listed")
    assert (device["id"], device["name"], device["state"]) == (device_id, "kiosk-1", "enrolled")
    assert admin.document("devices", "list", "--group", "listed", "--state", "online") == []


def test_a_device_is_shown_by_id_and_by_name(admin: Operator) -> None:
    """Both mean the same device."""
    device_id = enroll(admin, group="shown", name="kiosk-2")
    assert admin.document("devices", "show", "kiosk-2") == admin.document("devices", "show", device_id)
    lines = admin("devices", "show", device_id).out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["name", "kiosk-2"],
        ["id", device_id],
        ["group", "shown"],
        ["state", "enrolled"],
    ]


def test_labels_and_group_can_be_changed(admin: Operator) -> None:
    """A label with an empty value goes."""
    device_id = enroll(admin, group="before", name="kiosk-3")
    changed = admin.document("devices", "update", device_id, "--group", "after", "--label", "room=3", "--label", "x=1")
    assert (changed["group"], changed["labels"]) == ("after", {"room": "3", "x": "1"})
    assert admin.document("devices", "update", device_id, "--label", "x=")["labels"] == {"room": "3"}
    assert [device["id"] for device in admin.document("devices", "list", "--label", "room=3")] == [device_id]


def test_an_update_of_nothing_is_a_usage_error(admin: Operator) -> None:
    """Nothing is sent."""
    assert admin("devices", "update", "any").code == 2


def test_a_revoked_device_stays_revoked(admin: Operator) -> None:
    """And is shown as such."""
    device_id = enroll(admin, group="revoked", name="kiosk-4")
    assert admin("devices", "revoke", device_id, "--reason", "stolen").code == 0
    assert admin.document("devices", "show", device_id)["device"]["state"] == "revoked"


def test_an_unknown_device_is_refused_with_its_name(admin: Operator) -> None:
    """Exit code 1 and one sentence."""
    result = admin("devices", "show", "no-such-device")
    assert result.code == 1
    assert "no-such-device" in result.err.splitlines()[0]
    assert "Traceback" not in result.err


def test_the_trace_is_there_for_who_asks(admin: Operator) -> None:
    """With -v."""
    assert "Traceback" in admin("-v", "devices", "show", "no-such-device").err


def test_a_viewer_may_look_but_not_revoke(admin: Operator, coordinator: Coordinator) -> None:
    """The sentence names the role that is needed."""
    device_id = enroll(admin, group="guarded", name="kiosk-5")
    token = admin.document("tokens", "create", "watcher", "--role", "viewer")["secret"]
    fingerprint = coordinator.endpoints["ca_fingerprint"]
    admin("login", coordinator.address, "--token", token, "--ca-fingerprint", fingerprint, "--context", "watcher")
    assert admin("devices", "show", device_id).code == 0
    result = admin("devices", "revoke", device_id, "--reason", "envy")
    assert result.code == 1
    assert "needs the role" in result.err


@pytest.mark.parametrize("option", [("--expires", "never"), ("--uses", "0")], ids=["expires", "uses"])
def test_a_wrong_option_is_a_usage_error(admin: Operator, option: tuple[str, str]) -> None:
    """Exit code 2, with the command whose help explains it."""
    result = admin("devices", "token", "--group", "shop", *option)
    assert result.code == 2
    assert "hint: edgeward devices token --help" in result.err
