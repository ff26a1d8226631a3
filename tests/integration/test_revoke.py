"""A device that is revoked is cut off in the middle of its stream, and goes on serving who asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.models import X, deploy_scale
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.processes import Device, Operator


def test_revoking_cuts_a_live_stream(admin: Operator, make_device: Callable[..., Device], tmp_path: Path) -> None:
    """The agent says once why; it is listed as revoked; it predicts on; its neighbour notices nothing."""
    lost, kept = make_device("lost"), make_device("kept")
    for device in (lost, kept):
        device.join(admin)
    deploy_scale(admin, tmp_path / "model", lost, kept)
    said = len(lost.log)
    revoked = admin("devices", "revoke", "lost", "--reason", "stolen")
    assert revoked.code == 0, revoked.err
    wait_until(lambda: "revoked" in lost.log[said:], within_s=5, what="the agent says so")
    assert admin.state_of("lost") == "revoked"
    assert admin.state_of("kept") == "online"

    # It asks again at the pace of one refused, gets the reason, and does not repeat itself.
    wait_until(lambda: "no session: the device lost" in lost.log, what="it asks again")
    assert admin.state_of("lost") == "revoked"
    complaints = [line for line in lost.log[said:].splitlines() if "no session" in line]
    assert len(complaints) <= 2, complaints
    assert "Traceback" not in lost.log
    assert lost.predict(X).document["outputs"]["y"] == (X * 2).tolist()
    assert kept.predict(X).document["outputs"]["y"] == (X * 2).tolist()
    wait_until(lambda: admin.predictions_of("kept") == 1, what="the neighbour's report")
    assert admin.predictions_of("lost") == 0
    assert lost.is_running


def test_a_revoked_device_comes_back_by_enrolling_anew(
    admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """As the error says; what it had installed is still there."""
    device = make_device("lost")
    device.join(admin)
    deploy_scale(admin, tmp_path / "model", device)
    assert admin("devices", "revoke", "lost", "--reason", "a mistake").code == 0
    wait_until(lambda: "revoked" in device.log, what="the agent says so")
    device.stop()
    device.name = "found"
    again = device.enroll(admin.enrollment_string(), "--force")
    assert again.code == 0, again.err
    device.start()
    wait_until(lambda: admin.state_of("found") == "online", what="it is back")
    assert device.predict(X).document["outputs"]["y"] == (X * 2).tolist()
