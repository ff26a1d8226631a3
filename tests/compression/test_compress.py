"""The compression job from a trained state dict to measured flavors, as a process."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeward.protocol.bundle import pack_bundle
from edgeward.protocol.golden import decode_golden
from edgeward.protocol.model import signature_from_json
from edgeward.protocol.tensors import encode_tensors
from edgeward_compression.models.compress import Spec, compress, read_spec
from edgeward_compression.models.errors import CompressionError
from edgeward_compression.models.events import Events
from edgeward_compression.models.flavors import choose_recipes
from edgeward_compression.runtimes import LoadedModel, load_model, probe_model

from .conftest import TASK, Compressed, make_arrays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.protocol.tensors import Array

# torch and the converters call what torch has deprecated; not ours to fix.
exporters_warn = pytest.mark.filterwarnings("ignore")

FLAVORS = ["onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8"]


def load(compressed: Compressed, name: str) -> LoadedModel:
    event = compressed.flavors()[name]
    return load_model(compressed.folder / event["file"], format=event["format"])


def write_spec(folder: Path, app: Path, *flavors: str) -> Spec:
    (folder / "bundle.zip").write_bytes(pack_bundle(app))
    (folder / "arrays.npz").write_bytes(encode_tensors(make_arrays()))
    return Spec(bundle=folder / "bundle.zip", arrays=folder / "arrays.npz", flavors=flavors, seed=3)


def keyed(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(st.sampled_from(["bundle", "arrays", "flavors", "seed"]), values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | keyed(inner),
    max_leaves=10,
)


def stripes(count: int, *, scale: float = 1.0) -> Array:
    """Images like the app's, of other seeds."""
    rng = np.random.default_rng(5)
    pattern = np.tile(np.array([0, 1] * 4, np.float32), (8, 1))
    images = np.stack([pattern if i % 2 else pattern.T for i in range(count)])[:, None]
    return ((images + rng.normal(0, 0.3, images.shape)) * scale).astype(np.float32)


def reference(x: Array) -> Array:
    """What the app's module computes, in numpy alone: convolution, normalisation, pooling, votes."""
    arrays = {name: array.astype(np.float64) for name, array in make_arrays().items()}
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[:, 0], (3, 3), axis=(1, 2))
    features = np.einsum("nhwij,cij->nchw", windows, arrays["body.0.weight"][:, 0])
    gain = arrays["body.1.weight"] / np.sqrt(arrays["body.1.running_var"] + 1e-5)
    shift = arrays["body.1.bias"] - arrays["body.1.running_mean"] * gain
    features = np.maximum(features * gain[:, None, None] + shift[:, None, None], 0)
    pooled = features.reshape(len(x), 8, 4, 2, 4, 2).max(axis=(3, 5)).reshape(len(x), -1)
    votes: Array = pooled @ arrays["body.5.weight"].T + arrays["body.5.bias"]
    return votes


def test_every_flavor_is_made(compressed: Compressed) -> None:
    """The command ends well and nothing was skipped."""
    assert list(compressed.flavors()) == FLAVORS
    assert {event["event"] for event in compressed.events} == {"activity", "flavor"}
    assert compressed.returncode == 0


def test_output_folder_holds_the_flavors_and_nothing_else(compressed: Compressed) -> None:
    """No intermediate file, no unpacked code stays."""
    told = {event[key] for event in compressed.flavors().values() for key in ("file", "golden")}
    assert {path.name for path in compressed.folder.iterdir()} == told


@pytest.mark.parametrize("name", FLAVORS)
@pytest.mark.parametrize("count", [1, 5])
def test_one_request_fits_every_flavor(compressed: Compressed, name: str, count: int) -> None:
    """Input and output have one name in all formats, stay float32, and any number of rows is taken."""
    x = stripes(count)
    with load(compressed, name) as model:
        outputs = model.predict({"input": x})
        assert model.signature == signature_from_json(compressed.flavors()[name]["signature"])
    assert list(outputs) == ["output"]
    assert outputs["output"].dtype == np.float32
    spread = float(np.ptp(reference(x)))
    tolerance = (1e-4 if name.endswith("fp32") else 0.05) * spread
    np.testing.assert_allclose(outputs["output"], reference(x), atol=tolerance)


@pytest.mark.parametrize("name", ["onnx-int8", "tflite-int8"])
def test_calibration_covers_its_extremes(compressed: Compressed, name: str) -> None:
    """An activation as large as the largest of the calibration data is not clipped."""
    x = stripes(4, scale=4)
    with load(compressed, name) as model:
        outputs = model.predict({"input": x})["output"]
    np.testing.assert_allclose(outputs, reference(x), atol=0.05 * float(np.ptp(reference(x))))


@pytest.mark.parametrize("name", FLAVORS)
def test_golden_set_passes_in_another_process(compressed: Compressed, name: str) -> None:
    """Eight held-out inputs with this artifact's own outputs, as a device will check them."""
    event = compressed.flavors()[name]
    golden = decode_golden((compressed.folder / event["golden"]).read_bytes())
    assert len(golden.inputs["input"]) == 8
    result = probe_model(compressed.folder / event["file"], format=event["format"], golden=golden)
    assert result.golden is not None
    assert result.golden.passed
    assert result.precision == event["precision"]


@pytest.mark.parametrize("name", FLAVORS)
def test_evaluation_is_of_the_held_out_examples(compressed: Compressed, name: str) -> None:
    """All held-out examples count, and the accuracy is what the module has."""
    evaluation = compressed.flavors()[name]["evaluation"]
    assert evaluation["examples"] == 100
    assert evaluation["accuracy"] >= 0.97
    assert 0 < evaluation["latency_p50_s"] < 1
    assert evaluation["runtime"].split()[0] in {"onnxruntime", "ai-edge-litert"}


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-int8"])
def test_onnx_files_hold_nothing_but_the_model(compressed: Compressed, name: str) -> None:
    """Stack traces and source paths of whoever exported it do not travel to devices."""
    path = compressed.folder / compressed.flavors()[name]["file"]
    data = path.read_bytes()
    assert b"pkg.torch" not in data
    assert b'.py"' not in data
    assert [operators.domain for operators in onnx.load(str(path)).opset_import] == [""]


def test_onnx_int8_is_the_fast_kind(compressed: Compressed) -> None:
    """uint8 activations, int8 weights with a scale for each channel, normalisation folded away."""
    graph = onnx.load(str(compressed.folder / compressed.flavors()["onnx-int8"]["file"])).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {values[node.input[2]].dtype.name for node in quantizers} == {"uint8"}
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in values]
    scales = {values[node.input[0]].shape: values[node.input[1]].shape for node in weights}
    assert scales[8, 1, 3, 3] == (8,)
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_default_flavors_are_those_that_devices_run() -> None:
    """The float TFLite file is a step on the way, made as a flavor on request only."""
    assert [recipe.name for recipe in choose_recipes([])] == ["onnx-fp32", "onnx-int8", "tflite-int8"]


def test_unknown_flavor_is_refused_before_any_work() -> None:
    """The message lists what can be made."""
    with pytest.raises(CompressionError, match="no recipe makes flavor 'onnx-int7'; known are onnx-fp32, onnx-int8"):
        choose_recipes(["onnx-fp32", "onnx-int7"])


def test_job_that_can_not_start_fails_in_words(
    make_app: Callable[..., Path], run_compress: Callable[..., Compressed]
) -> None:
    """The last event says what was wrong, and the exit status that it was."""
    failed = run_compress(make_app("stripes"), [], arrays=b"garbage")
    assert failed.returncode == 1
    assert failed.events[-1]["event"] == "failed"
    assert "the trained arrays can't be read" in failed.events[-1]["error"]


@exporters_warn
def test_flavor_that_can_not_be_made_costs_no_other(
    make_app: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without litert-torch the ONNX flavors come all the same, and the reason is told."""
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    spec = write_spec(tmp_path, make_app("skipping"), "tflite-fp32", "onnx-fp32")
    said = io.StringIO()
    compress(spec, tmp_path / "out", Events(said))
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(event["event"], event["name"]) for event in events if "name" in event] == [
        ("flavor", "onnx-fp32"),
        ("skipped", "tflite-fp32"),
    ]
    assert "litert-torch is not installed" in events[-1]["reason"]


@exporters_warn
def test_conversion_that_computes_something_else_is_no_flavor(make_app: Callable[..., Path], tmp_path: Path) -> None:
    """A float file whose numbers are not the module's is refused; with no flavor left the job fails."""
    task = TASK.replace("return self.body(x)", "return self.body(x) + 0.5 * torch.compiler.is_exporting()")
    said = io.StringIO()
    with pytest.raises(CompressionError, match="no flavor could be made"):
        compress(write_spec(tmp_path, make_app("lying", task=task), "onnx-fp32"), tmp_path / "out", Events(said))
    assert "differs from the module: output 'output' is off by" in said.getvalue()


@given(JSON | keyed(JSON))
def test_any_specification_is_read_or_refused(value: object) -> None:
    """Whatever JSON the file holds, the answer is a Spec or one kind of error."""
    try:
        spec = read_spec(json.dumps(value).encode())
    except CompressionError:
        return
    assert isinstance(spec.seed, int)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "binary", "deep"])
def test_specification_that_is_no_json_is_refused(data: bytes) -> None:
    """One kind of error for what is no JSON at all."""
    with pytest.raises(CompressionError, match="specification can't be read"):
        read_spec(data)
