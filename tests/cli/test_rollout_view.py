"""The live view of a rollout."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console

from edgeward.v1 import deployment_pb2
from edgeward_server.cli.rollout_view import rollout_view
from tests.cli.a_rollout import NOON, a_rollout


def drawn(rollout: deployment_pb2.Rollout, *, width: int = 80) -> str:
    console = Console(width=width, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        console.print(rollout_view(rollout, now=NOON + timedelta(seconds=33)))
    return capture.get()


def test_eighty_columns_show_all_names_and_states_whole() -> None:
    """Nothing is cut that is read from it."""
    text = drawn(a_rollout(reason="a reason that is much longer than a line of eighty columns " * 3))
    for word in ("digits:1 → 2", "running", "33.0 s", "canary", "passed", "1/3", "accuracy", "pending", "probation"):
        assert word in text
    assert text.count("a reason") == 3
    assert max(map(len, text.splitlines())) <= 80


def test_a_large_fleet_shows_a_screenful_and_counts_the_rest() -> None:
    """Who needs a look is in the screenful."""
    rollout = a_rollout(devices=100)
    rollout.devices[77].state = "failed"
    text = drawn(rollout)
    assert "device-77" in text
    assert len(text.splitlines()) < 40
    assert "succeeded" in text.splitlines()[-1]


def test_a_queued_rollout_has_neither_gates_nor_devices() -> None:
    """It is shown nevertheless."""
    rollout = deployment_pb2.Rollout(model="digits", group="lab", to_version=2, state="queued", reason="another one")
    assert "queued" in drawn(rollout)
