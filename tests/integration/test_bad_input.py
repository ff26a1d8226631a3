"""What is wrong costs one sentence and nothing else: who asked is told what to do, and coordinator and agent go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.enrollment import EnrollmentString, format_enrollment_string, parse_enrollment_string
from tests.integration.models import X, deploy_scale, write_golden, write_heavy_scale
from tests.integration.processes import Coordinator, Device, Operator
from tests.tiny_models import (
    write_onnx_scale,
    write_onnx_with_operator,
    write_tflite_crashing,
    write_tflite_custom,
    write_tflite_scale,
)
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer

_MIB = 1 << 20


class Site:
    """One coordinator, one operator, one device that serves `scale`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = Coordinator(folder / "coordinator")
        self.device = Device(folder / "devices", "north")

    def start(self) -> None:
        """Bring it to work."""
        self.coordinator.start()
        self.admin = self.coordinator.admin(self.folder / "config")
        self.device.join(self.admin)
        deploy_scale(self.admin, self.folder / "model", self.device)

    def verify_goes_on(self) -> None:
        """Everybody still does their work."""
        assert self.coordinator.is_running, self.coordinator.log
        assert self.admin.state_of("north") == "online"
        assert self.device.is_running, self.device.log
        assert self.device.predict(X).document["outputs"]["y"] == (X * 2).tolist()

    def close(self) -> None:
        """End all."""
        self.device.kill()
        self.coordinator.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For all tests of this module."""
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The same; after each test it must still be at work."""
    yield running
    running.verify_goes_on()


def test_a_wrong_operator_token(site: Site, tmp_path: Path) -> None:
    """At login."""
    stranger = Operator(tmp_path / "config")
    fingerprint = str(site.coordinator.server["ca_fingerprint"])
    login = ["login", site.coordinator.address, "--ca-fingerprint", fingerprint]
    stranger(*login, "--token", "ewt_wrong").verify_one_sentence("does not know this token", "mistyped", code=1)


def test_a_revoked_operator_token(site: Site, tmp_path: Path) -> None:
    """Of somebody who was logged in."""
    token = site.admin.document("tokens", "create", "guest", "--role", "viewer")
    guest = Operator(tmp_path / "config")
    fingerprint = str(site.coordinator.server["ca_fingerprint"])
    secret = token["secret"]
    assert guest("login", site.coordinator.address, "--ca-fingerprint", fingerprint, "--token", secret).code == 0
    guest("models", "push", "x", site.folder / "model" / "scale.onnx").verify_one_sentence("viewer", "operator", code=1)
    assert site.admin("tokens", "revoke", token["id"]).code == 0
    guest("devices", "list").verify_one_sentence("revoked", code=1)


def _change(string: str, **changes: str) -> str:
    parts = parse_enrollment_string(string)
    kept = {"address": parts.address, "ca_fingerprint": parts.ca_fingerprint, "secret": parts.secret}
    return format_enrollment_string(EnrollmentString(**{**kept, **changes}))


def _wrong_secret(admin: Operator, _folder: Path) -> str:
    string = admin.enrollment_string()
    secret = parse_enrollment_string(string).secret
    return _change(string, secret=secret[:-4] + ("aaaa" if secret[-4:] != "aaaa" else "bbbb"))


def _spent(admin: Operator, folder: Path) -> str:
    string = admin.enrollment_string(uses=1)
    assert Device(folder, "first").enroll(string).code == 0
    return string


def _expired(admin: Operator, _folder: Path) -> str:
    string, over_at = admin.enrollment_string(expires="1s"), time.monotonic() + 1
    wait_until(lambda: time.monotonic() > over_at)
    return string


def _wrong_fingerprint(admin: Operator, _folder: Path) -> str:
    return _change(admin.enrollment_string(), ca_fingerprint="0" * 64)


def _damaged(admin: Operator, _folder: Path) -> str:
    return admin.enrollment_string()[:-5]


@pytest.mark.parametrize(
    ("make", "code", "parts"),
    [
        pytest.param(_wrong_secret, 1, ["token", "devices token"], id="wrong token"),
        pytest.param(_spent, 1, ["spent", "devices token"], id="spent token"),
        pytest.param(_expired, 1, ["token", "expired", "devices token"], id="expired token"),
        pytest.param(
            _wrong_fingerprint,
            1,
            ["expected 0000", "the token was not sent", "check the address"],
            id="wrong fingerprint",
        ),
        pytest.param(_damaged, 2, ["enrollment string is damaged", "copy it again"], id="damaged string"),
    ],
)
def test_enrolling_with(
    site: Site, tmp_path: Path, make: Callable[[Operator, Path], str], code: int, parts: list[str]
) -> None:
    """Nothing is left on the device that would have to be cleaned up: a good string works right after."""
    device = Device(tmp_path, "late")
    device.enroll(make(site.admin, tmp_path)).verify_one_sentence("edgeward-agent: ", *parts, code=code)
    assert device.enroll(site.admin.enrollment_string()).code == 0


def test_the_certificate_of_a_revoked_device(site: Site, tmp_path: Path) -> None:
    """Its agent starts, says why it has no session, and stays."""
    device = Device(tmp_path, "dismissed")
    assert device.enroll(site.admin.enrollment_string()).code == 0
    device.configure()
    assert site.admin("devices", "revoke", "dismissed", "--reason", "sold").code == 0
    _verify_no_session(device, "revoked", "enroll")


def test_a_certificate_of_another_fleet(site: Site, tmp_path: Path) -> None:
    """The device does not trust who answers, and says so."""
    other = Coordinator(tmp_path / "other")
    device = Device(tmp_path, "foreign")
    try:
        other.start()
        assert device.enroll(other.admin(tmp_path / "config").enrollment_string()).code == 0
        device.configure()
    finally:
        other.kill()
    identity = device.state_dir / "identity" / "identity.json"
    ports = (str(other.server["device_port"]), str(site.coordinator.server["device_port"]))
    identity.write_text(identity.read_text().replace(*ports))
    _verify_no_session(device, "is not this fleet's coordinator")


def test_a_certificate_of_another_fleet_that_trusts_this_one(site: Site, tmp_path: Path) -> None:
    """The coordinator hangs up; the device says what it sees and what may be the reason."""
    other = Coordinator(tmp_path / "other")
    device, member = Device(tmp_path, "foreign"), Device(tmp_path, "member")
    try:
        other.start()
        assert device.enroll(other.admin(tmp_path / "config").enrollment_string()).code == 0
    finally:
        other.kill()
    assert member.enroll(site.admin.enrollment_string()).code == 0
    own_ca, its_ca = (one.state_dir / "identity" / "1" / "fleet-ca.pem" for one in (device, member))
    pointer = device.state_dir / "identity" / "identity.json"
    content = json.loads(pointer.read_text())
    content["address"] = f"127.0.0.1:{site.coordinator.server['device_port']}"
    content["sha256"]["fleet-ca.pem"] = digest_of(its_ca.read_bytes())
    pointer.write_text(json.dumps(content))
    own_ca.write_bytes(its_ca.read_bytes())
    device.configure()
    _verify_no_session(device, "hangs up when it sees this device's certificate", "enroll --force")


def _verify_no_session(device: Device, *parts: str) -> None:
    try:
        device.start()
        wait_until(lambda: "no session" in device.log, what="it says so")
        (said, *_) = [line for line in device.log.splitlines() if "no session" in line]
        for part in parts:
            assert part in said
        assert device.is_running
        assert "Traceback" not in device.log
        assert device.stop() == 0
    finally:
        device.kill()


def _corrupt(path: Path) -> Path:
    path.write_bytes(os.urandom(2000))
    return path


def _truncated(path: Path) -> Path:
    whole = write_heavy_scale(path, ballast_bytes=100_000).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


_MODELS: list[Any] = [
    pytest.param(_corrupt, "m.onnx", ["no model", "push an ONNX"], id="corrupt"),
    pytest.param(_truncated, "m.onnx", ["ONNX", "check that the file is whole"], id="truncated ONNX"),
    pytest.param(
        lambda path: path.write_bytes(write_tflite_scale(path).read_bytes()[:200]) and path,
        "m.tflite",
        ["TFLite", "check that the file is whole"],
        id="truncated TFLite",
    ),
    pytest.param(_empty, "m.onnx", ["empty"], id="empty"),
    pytest.param(
        lambda path: write_onnx_with_operator(path, "Frobnicate"),
        "m.onnx",
        ["Frobnicate", "made for this runtime"],
        id="operator",
    ),
    pytest.param(
        lambda path: write_tflite_custom(path, "Frobnicate"),
        "m.tflite",
        ["Frobnicate", "made for this runtime"],
        id="custom",
    ),
    pytest.param(write_tflite_crashing, "m.tflite", ["crashed", "check that the file"], id="crashing"),
]


@pytest.mark.parametrize(("make", "name", "parts"), _MODELS)
def test_pushing_a_model_that_is(
    site: Site, tmp_path: Path, make: Callable[[Path], Path], name: str, parts: list[str]
) -> None:
    """No version comes of it."""
    pushed = site.admin("models", "push", "broken", make(tmp_path / name))
    pushed.verify_one_sentence("error: ", *parts, code=1)
    assert "broken" not in [model["name"] for model in site.admin.document("models", "list")]


def _golden_of_another_model(path: Path) -> Path:
    return write_golden(path, factor=3.0)


def _golden_of_another_shape(path: Path) -> Path:
    return write_golden(path, width=5)


def _golden_of_other_names(path: Path) -> Path:
    arrays: dict[str, Any] = {"input.z": X, "output.y": X}
    np.savez(path, **arrays)
    return path


def _golden_without_prefixes(path: Path) -> Path:
    np.savez(path, x=X, y=X)
    return path


def _golden_without_content(path: Path) -> Path:
    path.write_bytes(b"no archive")
    return path


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        pytest.param(
            _golden_of_another_model, ["'y' is off by", "give the set that belongs to this file"], id="other outputs"
        ),
        pytest.param(
            _golden_of_another_shape, ["'x' takes shape [?, 4], got [3, 5]", "belongs to it"], id="other shape"
        ),
        pytest.param(_golden_of_other_names, ["takes inputs ['x'], got ['z']", "belongs to it"], id="other names"),
        pytest.param(_golden_without_prefixes, ["'input.NAME'", "numpy.savez"], id="no prefixes"),
        pytest.param(_golden_without_content, ["npz", "numpy.savez"], id="no archive"),
    ],
)
def test_pushing_a_golden_set_of(site: Site, tmp_path: Path, make: Callable[[Path], Path], parts: list[str]) -> None:
    """No version comes of it."""
    model, golden = write_onnx_scale(tmp_path / "m.onnx"), make(tmp_path / "golden.npz")
    pushed = site.admin("models", "push", "unfit", model, "--golden", golden)
    pushed.verify_one_sentence("error: ", "golden", *parts, code=1)
    assert "unfit" not in [model["name"] for model in site.admin.document("models", "list")]


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        pytest.param(X.astype(np.float64), ["float32", "float64"], id="dtype"),
        pytest.param(X[:, :3], ["[?, 4]", "[1, 3]"], id="shape"),
        pytest.param(X[0], ["[?, 4]", "[4]"], id="rank"),
    ],
)
def test_predicting_with_a_wrong(site: Site, inputs: Any, parts: list[str]) -> None:
    """The file is named, with what the model takes and what it got."""
    site.device.predict(inputs).verify_one_sentence("north-inputs.npz", *parts, code=2)


def test_predicting_with_an_unknown_model(site: Site) -> None:
    """It says which there are."""
    site.device.predict(X, model="nothing").verify_one_sentence("'nothing'", "scale", code=2)


def test_what_is_not_there(site: Site) -> None:
    """Names are repeated, and where to look is said."""
    site.admin("devices", "show", "nobody").verify_one_sentence("nobody", code=1)
    site.admin("models", "show", "nothing").verify_one_sentence("nothing", code=1)
    site.admin("deploy", "nothing", "--group", "lab").verify_one_sentence("nothing", code=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Write a file until not one byte more fits."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_on_the_device(admin: Operator, small_disk: Path, tmp_path: Path) -> None:
    """It says so, serves what it has, counts what it can; with room again it takes the version by itself."""
    device = Device(tmp_path / "devices", "south", state_dir=small_disk / "state")
    try:
        device.join(admin)
        deploy_scale(admin, tmp_path / "model", device)
        assert device.predict(X).document["version"] == 1
        heavy = write_heavy_scale(tmp_path / "heavy.onnx", ballast_bytes=16 * _MIB, factor=3.0)
        assert admin("models", "push", "scale", heavy).code == 0
        assert admin("models", "approve", "scale:2").code == 0
        assert admin("deploy", "scale:2", "--group", "lab").code == 0

        def reported() -> str:
            return str(admin.document("devices", "show", "south")["device"])

        wait_until(lambda: re.search(r"disk|space", reported()), what="the device tells the coordinator")
        assert device.is_running
        assert "Traceback" not in device.log
        filler = fill(small_disk)
        for _ in range(3):
            answer = device.predict(X)
            assert answer.document["version"] == 1
            assert "Traceback" not in answer.err
        assert admin.state_of("south") == "online"
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        wait_until(lambda: device.predict(X).document["version"] == 2, within_s=60, what="the version is here")
        assert device.predict(X).document["outputs"]["y"] == (X * 3).tolist()
        assert device.is_running
        assert "Traceback" not in device.log
        before = admin.predictions_of("south")
        assert device.predict(X).code == 0
        wait_until(lambda: admin.predictions_of("south") > before, what="reports go on")
    finally:
        device.kill()


@pytest.mark.postgres
def test_a_database_that_is_gone(postgres: PostgresServer, tmp_path: Path) -> None:
    """Commands say so; coordinator and agent wait; once it is back everything goes on and nothing was lost."""
    coordinator = Coordinator(tmp_path / "coordinator", "--database-url", postgres.create_database())
    device = Device(tmp_path / "devices", "east")
    is_stopped = False
    try:
        coordinator.start()
        admin = coordinator.admin(tmp_path / "config")
        device.join(admin)
        deploy_scale(admin, tmp_path / "model", device)
        postgres.stop()
        is_stopped = True
        admin("devices", "list").verify_one_sentence("the database does not answer", "try again", code=1)
        for rows in (1, 2):
            assert device.predict(np.repeat(X, rows, axis=0)).code == 0
        assert coordinator.is_running, coordinator.log
        postgres.start()
        is_stopped = False
        wait_until(lambda: admin("devices", "list").code == 0, what="commands work again")
        wait_until(lambda: admin.predictions_of("east") == 3, what="the reports arrive")
        wait_until(lambda: admin.state_of("east") == "online", what="the device is online")
        assert "Traceback" not in device.log
        assert coordinator.stop() == 0
    finally:
        if is_stopped:
            postgres.start()
        device.kill()
        coordinator.kill()
