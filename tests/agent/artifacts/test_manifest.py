"""Tests of `edgeward_agent.artifacts.manifest`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.protocol import WireError
from edgeward.protocol.digests import Digest
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward_agent.artifacts.manifest import Manifest, decode_manifest, encode_manifest
from tests.protocol.damage import damaged
from tests.protocol.strategies import FLAVORS

MANIFESTS = st.builds(
    Manifest,
    model=st.sampled_from(["digits", "a", "x.y-z_1"]),
    version=st.integers(0, 2**32),
    flavor=FLAVORS,
    serial=st.integers(0, 2**32),
)
SPEC = TensorSpec(name="x", dtype="float32", shape=(None, 4))
FLAVOR = Flavor(
    name="onnx-int8",
    format="onnx",
    precision="int8",
    digest=Digest("ab" * 32),
    total_bytes=1,
    golden_digest=None,
    golden_bytes=0,
    signature=Signature(inputs=(SPEC,), outputs=(SPEC,)),
)
MANIFEST_BYTES = encode_manifest(Manifest(model="digits", version=1, flavor=FLAVOR, serial=1))


@given(MANIFESTS)
def test_manifest_round_trip(manifest: Manifest) -> None:
    """What was written is what is read after a restart."""
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(st.binary(max_size=200) | damaged([MANIFEST_BYTES]))
def test_arbitrary_bytes_raise_only_the_wire_error(content: bytes) -> None:
    """A file that a power cut left in any state is readable or a WireError."""
    try:
        manifest = decode_manifest(content)
    except WireError:
        return
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(
    field=st.sampled_from(sorted(json.loads(MANIFEST_BYTES)["flavor"])),
    value=st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just([]) | st.just({}),
)
def test_wrong_values_in_sound_json_raise_only_the_wire_error(field: str, value: object) -> None:
    """Each field is checked, whatever JSON stands in it."""
    content = json.loads(MANIFEST_BYTES)
    content["flavor"][field] = value
    try:
        manifest = decode_manifest(json.dumps(content).encode())
    except WireError:
        return
    assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize("model", ["..", "a/b", ""])
def test_manifest_of_a_model_that_is_none_is_refused(model: str) -> None:
    """Names become folders, also those that are read from the disk."""
    content = json.loads(MANIFEST_BYTES) | {"model": model}
    with pytest.raises(WireError, match="model name"):
        decode_manifest(json.dumps(content).encode())
