"""Rollouts by command line, where no device takes part; with devices: tests/integration/test_rollouts.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.enrolling import enroll
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Operator


def publish(admin: Operator, folder: Path, name: str) -> None:
    """Version 1 of a model, approved."""
    assert admin("models", "push", name, write_onnx_scale(folder / f"{name}.onnx")).code == 0
    assert admin("models", "approve", f"{name}:1").code == 0


def test_the_default_plan_is_printed_to_be_edited(stranger: Operator, admin: Operator, tmp_path: Path) -> None:
    """Without a login; and it can be given back as it is."""
    printed = stranger("rollouts", "plan")
    assert printed.code == 0
    plan = tmp_path / "plan.toml"
    plan.write_text(printed.out)
    publish(admin, tmp_path, "planned")
    enroll(admin, group="planned", name="planned-device")
    rollout = admin.document("rollouts", "start", "planned:1", "--group", "planned", "--plan", plan)
    assert [phase["name"] for phase in rollout["phases"]] == ["canary", "quarter", "everyone"]
    assert rollout["plan_toml"] == printed.out


def test_the_model_is_named_as_for_deploy_or_by_options(admin: Operator, tmp_path: Path) -> None:
    """Not both, and not neither."""
    publish(admin, tmp_path, "named")
    enroll(admin, group="named", name="named-device")
    for wrong in ([], ["named:1", "--model", "named"], ["named", "--version", "1"]):
        assert admin("rollouts", "start", *wrong, "--group", "named").code == 2
    by_options = admin.document("rollouts", "start", "--model", "named", "--version", "1", "--group", "named")
    queued = admin.document("rollouts", "start", "named:1", "--group", "named", "--queue")
    assert (by_options["to_version"], queued["to_version"]) == (1, 1)
    assert queued["state"] == "queued"


def test_a_rollout_is_shown_listed_and_ended(admin: Operator, tmp_path: Path) -> None:
    """With a device that never came; `watch` ends with exit code 1, since it was aborted."""
    publish(admin, tmp_path, "shown-rollout")
    enroll(admin, group="shown-rollout", name="absent")
    started = admin("rollouts", "start", "shown-rollout:1", "--group", "shown-rollout")
    assert started.code == 0, started.err
    rollout_id = started.out.strip()
    shown = admin("rollouts", "show", rollout_id).out
    for word in (rollout_id, "shown-rollout:nothing → 1", "canary", "everyone"):
        assert word in shown
    assert rollout_id in admin("rollouts", "list", "--live").out
    assert admin("rollouts", "abort", rollout_id, "--reason", "no time").code == 0
    assert rollout_id not in admin("rollouts", "list", "--live").out
    watched = admin("rollouts", "watch", rollout_id)
    assert watched.code == 1
    assert "aborted" in watched.err
    assert "no time" in watched.err


@pytest.mark.parametrize("command", ["show", "watch", "pause", "resume", "abort", "promote", "rollback"])
def test_a_rollout_that_does_not_exist_is_said_so(admin: Operator, command: str) -> None:
    """By every command, in a sentence."""
    result = admin("rollouts", command, "ffff0000ffff0000")
    assert result.code == 1
    assert "ffff0000ffff0000" in result.err
    assert len(result.err.splitlines()) <= 2


def test_a_plan_that_is_none_names_what_is_wrong(admin: Operator, tmp_path: Path) -> None:
    """The phase and the key."""
    publish(admin, tmp_path, "misplanned")
    plan = tmp_path / "plan.toml"
    plan.write_text('[[phases]]\nname = "canary"\nshare = 1.0\nmax_eror_ratio = 0.1\n')
    result = admin("rollouts", "start", "misplanned:1", "--group", "lab", "--plan", plan)
    assert result.code == 1
    assert "canary" in result.err
    assert "max_eror_ratio" in result.err
    plan.write_bytes(b"\xff\xfe")
    assert admin("rollouts", "start", "misplanned:1", "--group", "lab", "--plan", plan).code == 2


def test_what_is_not_approved_can_not_be_rolled_out(admin: Operator, tmp_path: Path) -> None:
    """As it can't be deployed."""
    assert admin("models", "push", "unapproved", write_onnx_scale(tmp_path / "m.onnx")).code == 0
    result = admin("rollouts", "start", "unapproved:1", "--group", "lab")
    assert result.code == 1
    assert "approve" in result.err
