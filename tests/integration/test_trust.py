"""Who may say what runs: approval by another person, and keys that are not on the coordinator."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.models import X, write_golden
from tests.integration.processes import Coordinator, Operator
from tests.tiny_models import write_onnx_scale
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.processes import Device

pytestmark = pytest.mark.timeout(180)


def push(operator: Operator, folder: Path, *, name: str = "scale") -> None:
    """Y = 2x, as version 1."""
    model = write_onnx_scale(folder / f"{name}.onnx")
    pushed = operator("models", "push", name, model, "--golden", write_golden(folder / f"{name}.npz"))
    assert pushed.code == 0, pushed.err


def log_in(coordinator: Coordinator, admin: Operator, folder: Path, *, role: str) -> Operator:
    """Somebody else, with a role."""
    secret = admin.document("tokens", "create", f"a-{role}", "--role", role)["secret"]
    operator = Operator(folder)
    fingerprint = str(coordinator.server["ca_fingerprint"])
    login = operator("login", coordinator.address, "--token", secret, "--ca-fingerprint", fingerprint)
    assert login.code == 0, login.err
    return operator


def sign_what_waits(admin: Operator, folder: Path, *, key: Path) -> list[str]:
    """Export, sign where nobody is logged in, import; the roles that came into force."""
    pending = folder / "pending.json"
    pending.unlink(missing_ok=True)
    exported = admin("trust", "export", pending)
    assert exported.code == 0, exported.err
    signed = Operator(folder / "no-login")("trust", "sign", pending, "--key", key, "--yes")
    assert signed.code == 0, signed.err
    return [str(role) for role in admin.document("trust", "import", pending)["published_roles"]]


def test_who_pushed_a_version_may_not_approve_it(tmp_path: Path) -> None:
    """Where the coordinator is told so; an approver may, an operator never."""
    coordinator = Coordinator(tmp_path / "coordinator", "--approval", "other")
    try:
        coordinator.start()
        admin = coordinator.admin(tmp_path / "config")
        push(admin, tmp_path)
        admin("models", "approve", "scale:1").verify_one_sentence("somebody else", code=1)
        operator = log_in(coordinator, admin, tmp_path / "operator", role="operator")
        operator("models", "approve", "scale:1").verify_one_sentence("approver", code=1)
        approver = log_in(coordinator, admin, tmp_path / "approver", role="approver")
        approved = approver.document("models", "approve", "scale:1", "--reason", "looks right")
        assert {flavor["approved_by"] for flavor in approved["flavors"]} == {"a-approver"}
        assert admin("deploy", "scale:1", "--group", "lab").code == 0
        assert "looks right" in admin("audit", "show").out
    finally:
        coordinator.kill()


def test_a_version_is_signed_on_a_machine_without_a_network(
    coordinator: Coordinator, admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """Approve, export, sign where the key is, import: before that it can't be deployed, after it a device takes it."""
    vault = tmp_path / "vault"
    vault.mkdir()
    for key in (coordinator.data_dir / "trust" / "keys").glob("targets-*.pem"):
        shutil.move(key, vault)
    (key,) = vault.iterdir()
    push(admin, tmp_path)
    approved = admin.document("models", "approve", "scale:1")
    assert approved["waiting_for_roles"] == ["targets"]
    admin("deploy", "scale:1", "--group", "lab").verify_one_sentence("sign", code=1)

    pending = tmp_path / "pending.json"
    assert admin("trust", "export", pending).code == 0
    admin("trust", "import", pending).verify_one_sentence("no new signature", "sign", code=1)
    nobody = Operator(tmp_path / "no-login")
    signed = nobody("trust", "sign", pending, "--key", key, "--yes")
    assert signed.code == 0, signed.err
    assert "scale/1/" in signed.out
    imported = admin.document("trust", "import", pending)
    assert imported["published_roles"] == ["targets"]
    assert imported["waiting_for_roles"] == []

    device = make_device("north")
    device.join(admin)
    assert admin("deploy", "scale:1", "--group", "lab", "--wait", "--timeout", "30s").code == 0
    assert device.predict(X).document["version"] == 1


def test_a_team_signs_its_own_models_and_no_others(
    coordinator: Coordinator, admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """With a key that was never on the coordinator."""
    assert coordinator.is_running
    nobody = Operator(tmp_path / "no-login")
    assert nobody("trust", "keygen", tmp_path / "team.pem").code == 0
    added = admin("trust", "projects", "add", "kitchen", "--prefix", "kitchen-", "--key", tmp_path / "team.pub.pem")
    assert added.code == 0, added.err
    assert sign_what_waits(admin, tmp_path, key=tmp_path / "team.pem") == ["kitchen"]
    for name in ("kitchen-scale", "scale"):
        push(admin, tmp_path, name=name)
    assert admin.document("models", "approve", "scale:1")["waiting_for_roles"] == []
    assert admin.document("models", "approve", "kitchen-scale:1")["waiting_for_roles"] == ["kitchen"]
    admin("deploy", "kitchen-scale", "--group", "lab").verify_one_sentence("sign", code=1)
    assert sign_what_waits(admin, tmp_path, key=tmp_path / "team.pem") == ["kitchen"]
    device = make_device("north")
    device.join(admin)
    for name in ("kitchen-scale", "scale"):
        deployed = admin("deploy", name, "--group", "lab", "--wait", "--timeout", "30s")
        assert deployed.code == 0, (deployed.err, device.log)
    roles = {role["name"]: role for role in admin.document("trust", "show")["roles"]}
    assert (roles["kitchen"]["prefix"], roles["kitchen"]["targets"]) == ("kitchen-", 1)


def test_a_device_that_slept_through_rotations_follows(
    admin: Operator, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    """Every role has other keys when it comes back, the root twice; it takes a version that they signed."""
    device = make_device("north")
    device.join(admin)
    wait_until(lambda: admin.state_of("north") == "online", what="online")
    device.kill()
    for role in ("root", "targets", "snapshot", "timestamp", "root"):
        rotated = admin("trust", "rotate", role)
        assert rotated.code == 0, (role, rotated.err)
    push(admin, tmp_path)
    assert admin("models", "approve", "scale:1").code == 0
    assert admin("deploy", "scale:1", "--group", "lab").code == 0
    device.start()
    wait_until(lambda: device.predict(X).code == 0, within_s=40, what="it serves")
