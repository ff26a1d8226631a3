"""`edgeward-agent predict`: one call to a model that is installed here; no network, no daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol import WireError
from edgeward.protocol.tensors import decode_tensors, encode_tensors
from edgeward_agent.artifacts import models_on_disk, resolve_active
from edgeward_agent.config import load_config
from edgeward_agent.errors import Misuse
from edgeward_agent.inventory import usable_runtimes
from edgeward_agent.serving import Agent

if TYPE_CHECKING:
    import argparse

    from edgeward.protocol.model import Signature, TensorSpec
    from edgeward.protocol.tensors import Array
    from edgeward_agent.artifacts import ActiveModel
    from edgeward_agent.serving import Answer
    from edgeward_agent.state_dir import StateDir


def predict_command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
    """Predict, count it in the telemetry, print the answer."""
    active = find_model(state_dir, parsed.model)
    inputs = read_inputs(parsed.input, active.signature)
    problem = active.signature.problem_with(inputs)
    if problem:
        raise Misuse(f"{parsed.input} does not fit {active.model} version {active.version}: {problem}")
    runtimes = usable_runtimes(load_config(state_dir.config).runtimes)
    names = {model_format: runtime.name for model_format, runtime in runtimes.items()}
    with Agent(state_dir.root, runtimes=names, formats=tuple(runtimes)) as agent:
        answer = agent.answer(parsed.model, inputs, key=parsed.key)
    _write(parsed.output, answer)
    return 0


def find_model(state_dir: StateDir, name: str) -> ActiveModel:
    """What serves under a name.

    Raises:
        Misuse: Nothing does; the message says what is there.
    """
    there = models_on_disk(state_dir.models)
    active = resolve_active(state_dir.models / name).active if name in there else None
    if active is None:
        known = [model for model in there if model != name]
        hint = f"installed here: {', '.join(known)}" if known else f"no model is installed in {state_dir.root}"
        raise Misuse(f"there is no model {name!r} on this device", hint=hint)
    return active


def read_inputs(path: Path, signature: Signature) -> dict[str, Array]:
    """Arrays by input name, out of an npz or a JSON file.

    A single array is the input of a model that has one. JSON has no dtypes, so
    its numbers take the signature's.

    Raises:
        Misuse: The file is neither, or its numbers don't fit the dtype.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Misuse(f"{path} can't be read: {error.strerror}") from error
    if path.suffix.lower() == ".json":
        return _from_json(path, data, signature)
    try:
        arrays = decode_tensors(data)
    except WireError as error:
        raise Misuse(f"{path} is {error}", hint="give arrays as .npz (numpy.savez) or .json") from error
    single = _single_input(signature)
    if len(arrays) == 1 and single is not None:
        return {single.name: next(iter(arrays.values()))}
    return arrays


def _from_json(path: Path, data: bytes, signature: Signature) -> dict[str, Array]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{path} is no JSON: {error}") from error
    single = _single_input(signature)
    if not isinstance(content, dict):
        if single is None:
            names = ", ".join(spec.name for spec in signature.inputs)
            raise Misuse(f"{path} holds one array and the model takes {names}", hint='give {"name": [[…]], …}')
        content = {single.name: content}
    specs = {spec.name: spec for spec in signature.inputs}
    unknown = sorted(set(content) - set(specs))
    if unknown:
        raise Misuse(f"{path} names {unknown[:5]}, the model takes {sorted(specs)}")
    return {name: _to_array(path, specs[name], value) for name, value in content.items()}


def _to_array(path: Path, spec: TensorSpec, value: object) -> Array:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise ValueError("only numbers and booleans")
        cast = array.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise Misuse(f"{path}: {spec.name!r} is no array of {spec.dtype}: {error}") from error
    # A cast that changes a number is another request: 300 as int8 would be asked as 44.
    if array.dtype.kind != "f" and array.size and not np.array_equal(cast.astype(array.dtype), array):
        raise Misuse(f"{path}: {spec.name!r} holds numbers outside of {spec.dtype}")
    if array.dtype.kind == "f" and cast.dtype.kind in "biu" and not np.array_equal(cast.astype(array.dtype), array):
        raise Misuse(f"{path}: {spec.name!r} holds fractions, and the model takes {spec.dtype}")
    return cast


def _single_input(signature: Signature) -> TensorSpec | None:
    return signature.inputs[0] if len(signature.inputs) == 1 else None


def _write(output: str, answer: Answer) -> None:
    """The outputs, and which version they are of; that is on stdout either way."""
    facts: dict[str, object] = {
        "model": answer.model,
        "version": answer.version,
        "flavor": answer.flavor,
        "arm": answer.arm,
    }
    if output == "-":
        facts["outputs"] = {name: array.tolist() for name, array in answer.outputs.items()}
    else:
        Path(output).write_bytes(encode_tensors(answer.outputs))
        facts["output"] = output
    sys.stdout.write(json.dumps(facts) + "\n")
