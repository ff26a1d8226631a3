"""The coordinator by command line."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.cli.conftest import EDGEWARD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Coordinator


def serve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A start that must fail."""
    command = [EDGEWARD, "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_data_folder_has_one_coordinator(coordinator: Coordinator) -> None:
    """The second says who is there, and the first goes on."""
    result = serve("--data-dir", coordinator.data_dir, "--port", "0", "--device-port", "0")
    assert result.returncode == 1
    assert f"process {coordinator.endpoints['pid']}" in result.stderr
    assert "Traceback" not in result.stderr


def test_two_listeners_need_two_ports(tmp_path: Path) -> None:
    """Said before anything is made."""
    result = serve("--data-dir", tmp_path / "data", "--port", "7000", "--device-port", "7000")
    assert result.returncode == 1
    assert result.stderr.startswith("error: port and device port are both 7000\nhint: ")
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """Exit code 2."""
    assert serve("--data-dir", tmp_path, "--port", "70000").returncode == 2
