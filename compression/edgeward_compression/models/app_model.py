"""The model of a Flower app: what `[tool.edgeward.model]` in its pyproject.toml names, imported and filled.

[tool.edgeward.model]
name = "digits"                                  # in the registry
module = "digits.task:Net"                       # gives the torch.nn.Module
example = "digits.task:example_input"            # gives a batch of one input, float32
calibration = "digits.task:calibration_inputs"   # gives inputs for the quantizer, [N, …]
held_out = "digits.task:held_out"                # gives (inputs, labels) that training never saw
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeward.protocol.errors import WireError
from edgeward.protocol.tensors import decode_tensors
from edgeward_compression.models.errors import CompressionError

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """The section's keys; all but `name` are `package.module:callable`."""

    name: str
    module: str
    example: str
    calibration: str
    held_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppModel:
    """A trained module in evaluation mode with its data; the first axis of every array is the batch."""

    module: Any
    example: Array
    calibration: Array
    held_out: Array
    labels: Array


def read_model_section(pyproject: bytes) -> ModelSection:
    """The section of a pyproject.toml.

    Raises:
        CompressionError: It is missing, or a key of it; which one stands in the message.
    """
    try:
        section = tomllib.loads(pyproject.decode())["tool"]["edgeward"]["model"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompressionError(f"the app's pyproject.toml can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise CompressionError(
            "the app's pyproject.toml has no [tool.edgeward.model], so its model has no name to "
            "compress it by; see examples/digits"
        ) from error
    values = {field.name: _reference(section, field.name) for field in fields(ModelSection)}
    return ModelSection(**values)


def load_app_model(app_folder: Path, arrays: Path) -> AppModel:
    """Import the app, build its module and fill it with trained arrays.

    The app's code runs in this process, and its folder stays on `sys.path`: one
    process an app.

    Args:
        app_folder: The unpacked bundle.
        arrays: An npz of the module's state dict.

    Raises:
        CompressionError: A key, callable or array is missing or gives something else than it should.
    """
    pyproject = app_folder / "pyproject.toml"
    if not pyproject.is_file():
        raise CompressionError("the bundle has no pyproject.toml")
    section = read_model_section(pyproject.read_bytes())
    sys.path.insert(0, str(app_folder))
    module = _call(section, "module")
    if not isinstance(module, torch.nn.Module):
        raise CompressionError(f"module = {section.module!r} gives a {type(module).__name__}, not a torch.nn.Module")
    _fill(module, arrays)
    held_out, labels = _pair(section)
    example = _batch(section, "example", _call(section, "example"))[:1]
    calibration = _batch(section, "calibration", _call(section, "calibration"))
    for name, inputs in (("calibration", calibration), ("held_out", held_out)):
        if inputs.shape[1:] != example.shape[1:]:
            raise CompressionError(
                f"{name} gives inputs of shape {list(inputs.shape[1:])}, example of {list(example.shape[1:])}"
            )
    model = AppModel(module=module.eval(), example=example, calibration=calibration, held_out=held_out, labels=labels)
    _verify_output(model)
    return model


def _reference(section: dict[str, Any], key: str) -> str:
    value = section.get(key)
    if not isinstance(value, str) or not value:
        raise CompressionError(
            f"[tool.edgeward.model] has no {key!r}; it needs name, module, example, calibration and held_out"
        )
    if key != "name" and value.count(":") != 1:
        raise CompressionError(f"[tool.edgeward.model] {key} = {value!r} is not 'package.module:callable'")
    return value


def _call(section: ModelSection, key: str) -> Any:  # noqa: ANN401 - what an app's callable gives
    reference: str = getattr(section, key)
    module_name, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:
        # Foreign code: it may raise anything.
        raise CompressionError(f"{key} = {reference!r} failed: {type(error).__name__}: {error}") from error


def _pair(section: ModelSection) -> tuple[Array, Array]:
    value = _call(section, "held_out")
    if not isinstance(value, tuple) or len(value) != 2:
        raise CompressionError(f"held_out = {section.held_out!r} gives no (inputs, labels)")
    inputs, labels = _batch(section, "held_out", value[0]), np.asarray(value[1])
    if len(inputs) != len(labels):
        raise CompressionError(f"held_out gives {len(inputs)} inputs and {len(labels)} labels")
    return inputs, labels


def _batch(section: ModelSection, key: str, value: object) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim < 1 or len(value) == 0:
        what = f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise CompressionError(f"{key} = {getattr(section, key)!r} gives {what}, not a float32 array with a batch axis")
    return value


def _fill(module: Any, path: Path) -> None:  # noqa: ANN401 - torch is untyped here
    try:
        arrays = decode_tensors(path.read_bytes())
        broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        if broken:
            raise CompressionError(f"the trained array {broken[0]!r} holds nan or inf")
        module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    except WireError as error:
        raise CompressionError(f"the trained arrays can't be read: {error}") from error
    except (RuntimeError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise CompressionError(f"the trained arrays don't fit the app's module: {problem}") from error


def _verify_output(model: AppModel) -> None:
    rows = np.concatenate([model.example, model.example])
    with torch.no_grad():
        output = model.module(torch.from_numpy(rows))
    if not isinstance(output, torch.Tensor) or output.ndim < 1 or len(output) != len(rows):
        raise CompressionError("the module must give one tensor with a row for each input row")
