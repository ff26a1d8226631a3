"""An update of a model, killed anywhere: the device always comes up with a model that works."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.artifacts import STEPS
from tests.faults.updates import Device, read_line

if TYPE_CHECKING:
    from pathlib import Path

RANDOM_KILLS = int(os.environ.get("EDGEWARD_RANDOM_KILLS", "20"))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device that never had a model, and two versions to install."""
    return make_device(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device that serves version 1, as folders to copy."""
    folder = tmp_path_factory.mktemp("template")
    make_device(folder).update(1)
    return folder


@pytest.fixture
def serving_1(template: Path, tmp_path: Path) -> Device:
    """A device that serves version 1, and version 2 to install."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Device(state=tmp_path / "state", source=tmp_path / "source")


def make_device(folder: Path) -> Device:
    """Folders of a device, and versions 1 and 2."""
    device = Device(state=folder / "state", source=folder / "source")
    device.source.mkdir()
    for version in (1, 2):
        device.publish(version)
    return device


@pytest.mark.parametrize("step", STEPS)
def test_update_killed_at_each_step(serving_1: Device, step: str) -> None:
    """It boots with version 1 or 2, right in its numbers, and the same update then ends with version 2."""
    serving_1.update_killed(2, step)
    booted, updated = serving_1.update(2)
    assert booted.version == (2 if step == "activated" else 1)
    assert booted.repaired == ()
    assert updated.version == 2


@pytest.mark.parametrize("step", STEPS)
def test_first_install_killed_at_each_step(device: Device, step: str) -> None:
    """It boots with nothing or with what was checked already, and the installation then ends."""
    device.update_killed(1, step)
    booted, updated = device.update(1)
    assert booted.version == (1 if step in {"manifest-written", "activated"} else 0)
    assert updated.version == 1


@pytest.mark.parametrize("step", STEPS)
def test_update_killed_and_newest_file_cut(serving_1: Device, step: str) -> None:
    """Power went and took the last writes with it: version 1 or 2 serves, and the update ends with version 2."""
    serving_1.update_killed(2, step)
    os.truncate(serving_1.newest_file(), 7)
    booted, updated = serving_1.update(2)
    assert booted.version in {1, 2}
    assert updated.version == 2


@pytest.mark.parametrize("name", ["active.json", "slots/b/model.onnx", "slots/b/manifest.json"])
def test_cut_file_of_what_serves(serving_1: Device, name: str) -> None:
    """A file of the active slot is cut: the device says so, serves what is sound, and installs version 2 again."""
    serving_1.update(2)
    path = serving_1.state / "models" / "scale" / name
    os.truncate(path, path.stat().st_size // 2)
    booted, updated = serving_1.update(2)
    assert booted.version == (2 if name == "active.json" else 1)
    assert booted.repaired
    assert updated.version == 2


def test_kills_at_random_times(serving_1: Device) -> None:
    """Update after update is killed somewhere: each boot has a model that works, never older than one that served."""
    rng = random.Random(20260101)
    served, wanted = 1, 2
    for _ in range(RANDOM_KILLS):
        process = serving_1.start(wanted)
        assert process.stdout is not None
        booted = read_line(process.stdout.readline())
        assert served <= booted.version <= wanted
        served = booted.version
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 1.2))
        process.kill()
        process.communicate()
        if served == wanted or rng.random() < 0.5:
            wanted += 1
            serving_1.publish(wanted)
    assert serving_1.update(wanted)[-1].version == wanted
