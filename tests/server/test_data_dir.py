"""The data folder belongs to one process."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument
from edgeward_server.config import DataLayout, ServerConfig
from edgeward_server.data_dir import held_data_dir

if TYPE_CHECKING:
    from pathlib import Path


def test_folder_in_use_is_refused_with_the_holder(tmp_path: Path) -> None:
    """A second holder is told which process has the folder."""
    layout = DataLayout(root=tmp_path / "data")
    refused = pytest.raises(FailedPrecondition, match=f"process {os.getpid()}")
    with held_data_dir(layout), refused, held_data_dir(layout):
        pass
    with held_data_dir(layout):
        pass


def test_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    """What lies in the folder (the CA's key, tokens' hashes) is not for other users."""
    layout = DataLayout(root=tmp_path / "deep" / "data")
    with held_data_dir(layout):
        assert stat.S_IMODE(layout.root.stat().st_mode) == 0o700
        assert layout.ca.is_dir()


def test_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    """A path that is a file is told as what can't be used."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match=r"file/data"), held_data_dir(DataLayout(root=tmp_path / "file/data")):
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 70000}, "70000 is no port"),
        ({"device_port": -1}, "-1 is no device port"),
        ({"port": 5, "device_port": 5}, "both 5"),
        ({"heartbeat_s": 0.0}, "heartbeat each 0.0 s"),
        ({"heartbeat_s": float("nan")}, "heartbeat each nan s"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_impossible_settings_are_named(tmp_path: Path, settings: dict[str, float], said: str) -> None:
    """A setting that can't be is refused with its value."""
    with pytest.raises(InvalidArgument, match=said):
        ServerConfig(data_dir=tmp_path, **settings)  # type: ignore[arg-type]
