"""The job that compresses a trained model: `python -m edgeward_compression.models.compress --spec SPEC --out DIR`.

SPEC is JSON: `bundle` (path of the app's bundle), `arrays` (path of the npz of
the trained state dict), `flavors` (names, or none for the usual ones), `seed`.
Artifacts and golden sets are written to DIR; what happens is told on stdout, see
`events`. Exits with 1 after a `failed` event.

A process of its own: it runs the app's code and imports torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgeward.protocol.bundle import unpack_bundle
from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import TOLERANCES, GoldenSet, compare_with_golden, encode_golden
from edgeward_compression.models.app_model import AppModel, load_app_model
from edgeward_compression.models.errors import CompressionError
from edgeward_compression.models.evaluate import evaluate_model, make_golden
from edgeward_compression.models.events import Events, take_stdout
from edgeward_compression.models.flavors import Recipe, Workshop, choose_recipes
from edgeward_compression.models.onnx_export import OUTPUT
from edgeward_compression.runtimes import ModelError, load_model, probe_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.protocol.tensors import Array

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to do."""

    bundle: Path
    arrays: Path
    flavors: tuple[str, ...]
    seed: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; the exit status."""
    events = take_stdout()
    parser = argparse.ArgumentParser(prog="edgeward_compression.models.compress", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        compress(read_spec(options.spec.read_bytes()), options.out.resolve(), events)
    except (CompressionError, WireError, OSError) as error:
        events.failed(str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost frame; it logs
        _log.exception("compression failed")
        events.failed(f"{type(error).__name__}: {error}")
        return 1
    return 0


def read_spec(data: bytes) -> Spec:
    """The job's JSON.

    Raises:
        CompressionError: It is not what the module's docstring says.
    """
    try:
        spec = json.loads(data)
        return Spec(
            bundle=Path(spec["bundle"]),
            arrays=Path(spec["arrays"]),
            flavors=tuple(str(name) for name in spec.get("flavors", ())),
            seed=int(spec.get("seed", 0)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CompressionError(f"the job's specification can't be read: {error!r}") from error


def compress(spec: Spec, out: Path, events: Events) -> None:
    """Make every flavor that can be made.

    Raises:
        CompressionError: Not one could be made, or what all start from is wrong.
    """
    recipes = choose_recipes(spec.flavors)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="app-", dir=out) as app_folder:
        events.activity("loading the app and its trained arrays")
        unpack_bundle(spec.bundle.read_bytes(), Path(app_folder))
        _seed(spec.seed)
        model = load_app_model(Path(app_folder), spec.arrays)
        workshop = Workshop(model, out)
        made = sum(_make(recipe, workshop, model, out, events) for recipe in recipes)
    if not made:
        raise CompressionError("no flavor could be made; the reasons are above")


def _make(recipe: Recipe, workshop: Workshop, model: AppModel, out: Path, events: Events) -> bool:
    """One flavor, to the end or to the reason why not; each is a task of its own."""
    try:
        events.activity(f"converting to {recipe.name}")
        file = recipe.make(workshop)
        events.activity(f"evaluating {recipe.name}")
        _evaluate(recipe, file, model, out, events)
    except (CompressionError, ModelError) as error:
        events.skipped(recipe.name, str(error))
        return False
    except Exception as error:  # noqa: BLE001 - converters raise what they like, and that must cost one flavor only
        _log.exception("flavor %s failed", recipe.name)
        events.skipped(recipe.name, f"{type(error).__name__}: {error}"[:1000])
        return False
    return True


def _evaluate(recipe: Recipe, file: Path, model: AppModel, out: Path, events: Events) -> None:
    probe_model(file, format=recipe.format)
    with load_model(file, format=recipe.format) as loaded:
        golden = make_golden(loaded, model.held_out, recipe.precision)
        if recipe.precision == "fp32":
            _verify_against_module(golden, model)
        evaluation = evaluate_model(loaded, model.held_out, model.labels)
    golden_file = out / f"{recipe.name}.golden.npz"
    golden_file.write_bytes(encode_golden(golden))
    events.flavor(recipe, file=file, golden=golden_file, signature=loaded.signature, evaluation=evaluation)


def _verify_against_module(golden: GoldenSet, model: AppModel) -> None:
    """A float file must compute what the module computes; int8 is judged by its accuracy."""
    inputs = next(iter(golden.inputs.values()))
    expected = GoldenSet(inputs=golden.inputs, outputs={OUTPUT: _run(model, inputs)}, tolerance=TOLERANCES["fp32"])
    report = compare_with_golden(expected, golden.outputs)
    if not report.passed:
        raise CompressionError(f"the converted model differs from the module: {report.problem}")


def _run(model: AppModel, inputs: Array) -> Array:
    with torch.no_grad():
        outputs: Array = model.module(torch.from_numpy(inputs)).numpy()
    return outputs


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


if __name__ == "__main__":
    sys.exit(main())
