"""Making patches in a child: the same answer, and limits that hold."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward_compression.patches import PatchError, make_patch
from edgeward_compression.patches.process import make_patch_in_child

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base, a target, and where the patch goes."""
    base, target = tmp_path / "base", tmp_path / "target"
    content = np.random.default_rng(0).bytes(200_000)
    base.write_bytes(content)
    target.write_bytes(content[:100_000] + b"and" + content[100_000:])
    return base, target, tmp_path / "patch"


def test_child_makes_the_same_patch(files: tuple[Path, Path, Path]) -> None:
    """Method and bytes."""
    in_child = make_patch_in_child(*files)
    made = files[2].read_bytes()
    assert (make_patch(*files), files[2].read_bytes()) == (in_child, made)


def test_child_says_why_not(files: tuple[Path, Path, Path]) -> None:
    """Its error is ours."""
    files[0].unlink()
    with pytest.raises(PatchError, match="no patch from base to target"):
        make_patch_in_child(*files)


def test_time_is_limited(files: tuple[Path, Path, Path]) -> None:
    """A child that is not done in time is ended."""
    with pytest.raises(PatchError, match=r"within 0\.01 s"):
        make_patch_in_child(*files, timeout_s=0.01)


def test_memory_is_limited(files: tuple[Path, Path, Path]) -> None:
    """A child that asks for too much ends, with words."""
    with pytest.raises(PatchError, match=r"memory|ended"):
        make_patch_in_child(*files, memory_limit_bytes=1 << 20)


def test_applying_imports_numpy_and_zstandard_alone() -> None:
    """No parser and no runtime is loaded on a device."""
    script = (
        "import sys, edgeward_compression.patches\n"
        "heavy = {'onnx', 'flatbuffers', 'torch', 'onnxruntime', 'google'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
