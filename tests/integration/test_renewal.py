"""Certificates that live for seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.integration.models import X, deploy_scale
from tests.integration.processes import Coordinator
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.processes import Device


def test_a_device_outlives_its_certificates(make_device: Callable[..., Device], tmp_path: Path) -> None:
    """It renews in time, again and again, and stays a member for longer than any of them is good for."""
    coordinator = Coordinator(tmp_path / "coordinator", "--device-certificate-lifetime", "6s")
    try:
        coordinator.start()
        admin = coordinator.admin(tmp_path / "config")
        device = make_device("north")
        device.join(admin)
        first_end = ends_at(device)
        ends = {first_end}

        def has_renewed_twice() -> bool:
            ends.add(ends_at(device))
            return len(ends) >= 3 and datetime.now(UTC) > first_end

        wait_until(has_renewed_twice, what="two renewals")
        deploy_scale(admin, tmp_path / "model", device)
        assert device.predict(X).code == 0
        wait_until(lambda: admin.predictions_of("north") == 1, what="the report")
        wait_until(lambda: admin.state_of("north") == "online", what="online")
        renewals, lived_s = device.log.count("certificate renewed"), (ends_at(device) - first_end).total_seconds()
        assert renewals <= lived_s / 2, "each certificate serves for a good part of its life"
        modes = {path.stat().st_mode & 0o777 for path in (device.state_dir / "identity").glob("*/key.pem")}
        assert modes == {0o600}
    finally:
        coordinator.kill()


def ends_at(device: Device) -> datetime:
    """Until when its certificate is good, as it says itself."""
    return datetime.fromisoformat(device("status", "--json").document["identity"]["certificate_valid_until"])
