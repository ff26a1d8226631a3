"""Versions of one model as ONNX files, of which each has another last layer than the one before."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

_WIDTHS = (64, 400, 400, 100, 10)


def write_versions(folder: Path, *, count: int) -> list[Path]:
    """Files of about a megabyte: a perceptron of 225,000 weights, nine tenths of which never change."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    layers = [_layer(rng, *shape) for shape in pairwise(_WIDTHS)]
    paths = []
    for number in range(1, count + 1):
        layers[-1] = layers[-1] + rng.normal(0, 1e-3, layers[-1].shape).astype(np.float32)
        paths.append(_write(folder / f"version-{number}.onnx", layers))
    return paths


def _layer(rng: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    return rng.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)


def _write(path: Path, layers: list[np.ndarray]) -> Path:
    nodes, value = [], "x"
    for number, _ in enumerate(layers):
        nodes += [
            helper.make_node("MatMul", [value, f"w{number}"], [f"m{number}"]),
            helper.make_node("Relu", [f"m{number}"], [f"r{number}"]),
        ]
        value = f"r{number}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTHS[0]])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", _WIDTHS[-1]])
    weights = [numpy_helper.from_array(layer, f"w{number}") for number, layer in enumerate(layers)]
    graph = helper.make_graph(nodes, "perceptron", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
