"""What an app must say of its model, and what is said when it doesn't."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.tensors import encode_tensors
from edgeward_compression.models.app_model import load_app_model, read_model_section
from edgeward_compression.models.errors import CompressionError

from .conftest import PYPROJECT, TASK, make_arrays

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS = Path(__file__).parents[2] / "examples/digits"


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """The trained state dict of the small app."""
    path = tmp_path / "arrays.npz"
    path.write_bytes(encode_tensors(make_arrays()))
    return path


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing an app leaves its folder on the path; here it goes again."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_section_of_the_example_is_complete() -> None:
    """The app that the docs point to says all that is needed."""
    section = read_model_section((DIGITS / "pyproject.toml").read_bytes())
    assert section.name == "digits"
    assert section.module == "digits.task:Net"


@pytest.mark.parametrize("key", ["name", "module", "example", "calibration", "held_out"])
def test_missing_key_is_named(key: str) -> None:
    """One sentence with the key that is missing."""
    lines = [line for line in PYPROJECT.format(package="p").splitlines() if not line.startswith(f"{key} =")]
    with pytest.raises(CompressionError, match=rf"\[tool.edgeward.model\] has no '{key}'"):
        read_model_section("\n".join(lines).encode())


@pytest.mark.parametrize(
    ("pyproject", "words"),
    [
        (b"[project]\nname = 'p'", r"no \[tool.edgeward.model\]"),
        (b"[tool]\nedgeward = 3", r"no \[tool.edgeward.model\]"),
        (b"[tool", "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (
            PYPROJECT.format(package="p").replace("p.task:Net", "p.task.Net").encode(),
            "is not 'package.module:callable'",
        ),
    ],
    ids=["no-section", "no-table", "no-toml", "no-text", "no-callable"],
)
def test_unusable_pyproject_is_told_in_words(pyproject: bytes, words: str) -> None:
    """Whatever the file holds, the message says what should be there."""
    with pytest.raises(CompressionError, match=words):
        read_model_section(pyproject)


def test_app_is_loaded_with_its_trained_arrays(make_app: Callable[..., Path], arrays: Path) -> None:
    """The module has the arrays' values and is in evaluation mode; the data has its batch axes."""
    model = load_app_model(make_app("loaded"), arrays)
    np.testing.assert_array_equal(model.module.state_dict()["body.0.weight"].numpy(), make_arrays()["body.0.weight"])
    assert not model.module.training
    assert model.example.shape == (1, 1, 8, 8)
    assert model.calibration.shape == (64, 1, 8, 8)
    assert model.held_out.shape == (100, 1, 8, 8)
    assert model.labels.shape == (100,)


BROKEN = {
    "import_fails": (TASK.replace("import torch\n", "import torch_that_is_not\n"), "No module named"),
    "no_attribute": (TASK.replace("class Net", "class Other"), "has no attribute 'Net'"),
    "no_module": (TASK + "\ndef Net(): return 3\n", "gives a int, not a torch.nn.Module"),
    "example_raises": (TASK + "\ndef example(): raise OSError('no data here')\n", "OSError: no data here"),
    "float64": (TASK + "\ndef example(): return np.zeros((1, 1, 8, 8))\n", "gives float64 of shape"),
    "no_array": (TASK + "\ndef example(): return [1]\n", "gives list, not a float32 array"),
    "no_calibration": (TASK + "\ndef calibration(): return images(1, 0)[0]\n", "not a float32 array with a batch"),
    "other_shape": (TASK + "\ndef calibration(): return images(1, 4)[0][..., :4]\n", r"inputs of shape \[1, 8, 4\]"),
    "no_pair": (TASK + "\ndef held_out(): return images(1, 4)[0]\n", r"gives no \(inputs, labels\)"),
    "lengths": (TASK + "\ndef held_out(): return images(1, 4)[0], [1]\n", "4 inputs and 1 labels"),
    "two_outputs": (TASK.replace("return self.body(x)", "return self.body(x), x"), "must give one tensor"),
}


@pytest.mark.parametrize("package", BROKEN, ids=list(BROKEN))
def test_broken_app_is_told_in_words(make_app: Callable[..., Path], arrays: Path, package: str) -> None:
    """The message says which callable gave what."""
    task, words = BROKEN[package]
    with pytest.raises(CompressionError, match=words):
        load_app_model(make_app(package, task=task), arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"body.0.weight": np.zeros((8, 1, 5, 5), np.float32)}, "size mismatch for body.0.weight"),
        ({"extra": np.zeros(1)}, "Unexpected key"),
        ({"body.5.bias": np.array([0, np.nan], np.float32)}, "'body.5.bias' holds nan or inf"),
    ],
    ids=["shape", "extra", "nan"],
)
def test_arrays_that_do_not_fit_are_told_in_words(
    make_app: Callable[..., Path], tmp_path: Path, change: dict[str, np.ndarray], words: str
) -> None:
    """Nothing is compressed from half a model, or from a broken one."""
    path = tmp_path / "arrays.npz"
    path.write_bytes(encode_tensors(make_arrays() | change))
    with pytest.raises(CompressionError, match=words):
        load_app_model(make_app("unfit"), path)
