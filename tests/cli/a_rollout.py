"""A rollout as the coordinator tells of it, for tests of how it is shown."""

from __future__ import annotations

from datetime import UTC, datetime

from edgeward.protocol.instants import timestamp_from_instant
from edgeward.v1 import deployment_pb2

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_rollout(*, state: str = "running", reason: str = "", devices: int = 3) -> deployment_pb2.Rollout:
    """The canary has passed, the second phase goes on, the third waits."""
    labels = deployment_pb2.RolloutGate(
        name="accuracy", state="pending", value=0.9, limit=0.8, evidence=12, evidence_needed=30, text="12 of 30 labels"
    )
    install = deployment_pb2.RolloutGate(name="install", state="open", evidence=1, evidence_needed=1, text="0 failed")
    states = ["succeeded", "probation", "updating"]
    return deployment_pb2.Rollout(
        id="0123456789abcdef",
        model="digits",
        group="lab",
        from_version=1,
        to_version=2,
        state=state,
        reason=reason,
        phase=1,
        created_at=timestamp_from_instant(NOON),
        created_by="ada",
        group_devices=8,
        phases=[
            deployment_pb2.RolloutPhase(
                name="canary", mode="serve", state="passed", selected=1, succeeded=1, description="1 device or 5 %"
            ),
            deployment_pb2.RolloutPhase(
                name="quarter",
                mode="serve",
                state="running",
                selected=3,
                succeeded=1,
                on_probation=1,
                updating=1,
                description="25 % of the devices",
                gates=[install, labels],
            ),
            deployment_pb2.RolloutPhase(name="everyone", mode="serve", state="waiting", description="all devices"),
        ],
        devices=[
            deployment_pb2.RolloutDevice(
                device_id=f"{number:016x}", name=f"device-{number}", phase=min(number, 1), state=states[number % 3]
            )
            for number in range(devices)
        ],
    )
