"""The demo as a command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from edgeward_server.demo.processes import running_in
from tests.cli.conftest import EDGEWARD, Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def play(work_dir: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `edgeward demo` to its end."""
    command = [EDGEWARD, "demo", "--work-dir", work_dir, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[Path]:
    """Where nothing runs in the end."""
    folder = tmp_path / "demo"
    yield folder
    play(folder, "--stop")


def test_a_folder_that_no_demo_made_is_left_alone(work_dir: Path) -> None:
    """It is never emptied."""
    work_dir.mkdir()
    (work_dir / "thesis.txt").write_text("ten years of work")
    result = play(work_dir)
    assert result.returncode == 1
    assert "no folder of an earlier demo" in result.stderr
    assert (work_dir / "thesis.txt").read_text() == "ten years of work"


def test_a_demo_that_fails_leaves_no_process_and_says_why(work_dir: Path, tmp_path: Path) -> None:
    """Coordinator and agents were running when the app turned out to be none."""
    (tmp_path / "empty").mkdir()
    result = play(work_dir, "--devices", "2", "--app", tmp_path / "empty")
    assert result.returncode == 1
    assert "no Flower app" in result.stderr
    assert "the end of" in result.stderr
    record = json.loads((work_dir / "processes.json").read_text())
    assert record == {}
    assert "2 agents online" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_no_process(work_dir: Path, number: signal.Signals) -> None:
    """Whatever it was doing."""
    command: list[str | Path] = [EDGEWARD, "demo", "--work-dir", work_dir, "--devices", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        line = next(line for line in demo.stdout if "devices enrolled" in line or "error" in line)
        assert "2 devices enrolled" in line
        demo.send_signal(number)
        demo.stdout.read()
    assert demo.returncode == 130
    assert json.loads((work_dir / "processes.json").read_text()) == {}
    assert _command_lines_with(str(work_dir)) == []


def _command_lines_with(word: str) -> list[list[str]]:
    command_lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in command_lines if any(word in part for part in line)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_keeps_its_promises_and_the_fleet(work_dir: Path) -> None:
    """With two devices: every figure of the closing table, then a look around, then the end."""
    result = play(work_dir, "--devices", "2", "--rounds", "5", "--keep")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = re.findall(r"^device-\d .*$", result.stdout, re.MULTILINE)
    assert [row.split()[1] for row in rows] == ["onnx-int8", "tflite-int8"]
    assert all(row.split()[-1] == "0" for row in rows)
    operator = Operator(work_dir / "config")
    assert {device["state"] for device in operator.document("devices", "list")} == {"online"}
    assert sorted(running_in(work_dir)) == ["coordinator", "device-1", "device-2"]
    assert play(work_dir, "--stop").returncode == 0
    assert running_in(work_dir) == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_of_rollouts_keeps_its_promises(work_dir: Path) -> None:
    """The good version on every device, the bad one on one of three; no request dropped, and nothing left running."""
    command: list[str | Path] = [EDGEWARD, "demo", "rollout", "--work-dir", work_dir, "--devices", "3"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^ +2 +good +succeeded .* 3 of 3 ", result.stdout, re.MULTILINE)
    assert re.search(r"^ +3 +bad +rolled_back .* 1 of 3 ", result.stdout, re.MULTILINE)
    assert ", 0 of them without an answer" in result.stdout
    assert running_in(work_dir) == {}
