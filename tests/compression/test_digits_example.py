"""The example app: its data is split as it says, and it learns under Flower's own ServerApp and ClientApp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGITS = Path(__file__).parents[2] / "examples/digits"


@pytest.fixture(scope="module")
def task() -> Iterator[Any]:
    """The app's `digits.task`."""
    sys.path.insert(0, str(DIGITS))
    try:
        import digits.task

        yield digits.task
    finally:
        sys.path.remove(str(DIGITS))


def simulate(folder: Path, *, rounds: int, devices: int) -> dict[str, Any]:
    """Run the app in a process of its own, with Flower's home in `folder`."""
    environment = os.environ | {
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    script = Path(__file__).with_name("digits_in_one_process.py")
    command = [sys.executable, str(script), str(DIGITS), str(rounds), str(devices)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def as_rows(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_devices_share_no_image(task: Any) -> None:
    """Each training example is on one device, and all of them are on some device."""
    labels = np.random.default_rng(0).integers(0, 10, 500)
    parts = task.partition(labels, 5, 0.5, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(500))


def test_partition_follows_from_its_seed(task: Any) -> None:
    """Devices that compute the split apart get the same one."""
    labels = np.random.default_rng(0).integers(0, 10, 500)
    first, again, other = (task.partition(labels, 3, 0.5, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize(("alpha", "alike"), [(0.2, False), (1000.0, True)], ids=["skewed", "alike"])
def test_alpha_sets_how_alike_the_devices_are(task: Any, alpha: float, alike: bool) -> None:  # noqa: FBT001
    """A small alpha gives a device few digits, a large one all in equal shares."""
    labels = np.repeat(np.arange(10), 100)
    parts = task.partition(labels, 5, alpha, seed=1)
    shares = np.array([np.bincount(labels[part], minlength=10) / len(part) for part in parts])
    assert (np.abs(shares - 0.1).max() < 0.05) == alike


def test_more_devices_than_data_is_refused(task: Any) -> None:
    """No device is left with nothing, silently."""
    with pytest.raises(ValueError, match="no split of 20 examples over 10 devices"):
        task.partition(np.arange(20) % 10, 10, 0.5, seed=1)


def test_held_out_images_are_on_no_device(task: Any) -> None:
    """A fifth of the images, of all digits, is kept from every device and from calibration."""
    images, labels = task.held_out()
    assert len(images) == 360
    assert set(labels) == set(range(10))
    trained = [task.load_partition(index, 3, 0.5, 1) for index in range(3)]
    seen = set().union(*(as_rows(part[0]) | as_rows(part[1]) for part in trained), as_rows(task.calibration_inputs()))
    assert as_rows(images).isdisjoint(seen)


def test_devices_learn_together(tmp_path: Path) -> None:
    """A few rounds of three devices read most held-out digits; training again on a message gives the same bytes."""
    result = simulate(tmp_path, rounds=4, devices=3)
    assert result["accuracy"] > 0.8
    assert result["repeatable"] == [True]


@pytest.mark.slow
def test_settings_of_the_example_reach_its_goal(tmp_path: Path) -> None:
    """Eight rounds of five devices, as in the README."""
    assert simulate(tmp_path, rounds=8, devices=5)["accuracy"] > 0.95
