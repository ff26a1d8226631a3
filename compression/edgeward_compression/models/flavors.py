"""The flavors that can be made of a trained module, and how each is made.

A float file is made once and serves as the source of the int8 one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edgeward_compression.models.errors import CompressionError
from edgeward_compression.models.onnx_export import export_onnx
from edgeward_compression.models.onnx_quantize import quantize_onnx
from edgeward_compression.models.tflite import export_tflite, quantize_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.protocol.model import Format, Precision
    from edgeward_compression.models.app_model import AppModel


class Workshop:
    """Makes files of one model in one folder."""

    def __init__(self, model: AppModel, folder: Path) -> None:
        self._model = model
        self._folder = folder

    @cached_property
    def onnx_fp32(self) -> Path:
        """The float ONNX file."""
        target = self._folder / "onnx-fp32.onnx"
        export_onnx(self._model, target)
        return target

    @cached_property
    def onnx_int8(self) -> Path:
        """The int8 ONNX file."""
        target = self._folder / "onnx-int8.onnx"
        quantize_onnx(self.onnx_fp32, target, self._model.calibration)
        return target

    @cached_property
    def tflite_fp32(self) -> Path:
        """The float TFLite file."""
        target = self._folder / "tflite-fp32.tflite"
        export_tflite(self._model, target)
        return target

    @cached_property
    def tflite_int8(self) -> Path:
        """The int8 TFLite file."""
        target = self._folder / "tflite-int8.tflite"
        quantize_tflite(self.tflite_fp32, target, self._model.calibration)
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One flavor; `make` gives its file."""

    name: str
    format: Format
    precision: Precision
    make: Callable[[Workshop], Path]


RECIPES = (
    Recipe(name="onnx-fp32", format="onnx", precision="fp32", make=lambda workshop: workshop.onnx_fp32),
    Recipe(name="onnx-int8", format="onnx", precision="int8", make=lambda workshop: workshop.onnx_int8),
    Recipe(name="tflite-fp32", format="tflite", precision="fp32", make=lambda workshop: workshop.tflite_fp32),
    Recipe(name="tflite-int8", format="tflite", precision="int8", make=lambda workshop: workshop.tflite_int8),
)
_BY_DEFAULT = ("onnx-fp32", "onnx-int8", "tflite-int8")


def choose_recipes(names: Sequence[str]) -> list[Recipe]:
    """The recipes of these flavors, or of those made by default where none are named.

    Raises:
        CompressionError: A name is no flavor's.
    """
    unknown = sorted(set(names) - {recipe.name for recipe in RECIPES})
    if unknown:
        known = ", ".join(recipe.name for recipe in RECIPES)
        raise CompressionError(f"no recipe makes flavor {unknown[0]!r}; known are {known}")
    return [recipe for recipe in RECIPES if recipe.name in (names or _BY_DEFAULT)]
