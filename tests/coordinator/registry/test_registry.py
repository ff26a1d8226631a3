"""Versions: numbered without gaps or doubles, immutable, audited."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.errors import WireError
from edgeward.protocol.golden import decode_golden
from edgeward.protocol.model import Signature
from edgeward.protocol.tensors import encode_tensors
from edgeward_coordinator.errors import AlreadyExists, InvalidArgument, NotFound
from edgeward_coordinator.registry import Lineage, Registry
from edgeward_coordinator.storage import read_audit_entries
from tests.registrations import ACTOR, evaluation, golden_bytes, make_flavor, train_version, upload
from tests.tiny_models import write_onnx_scale

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward_coordinator.storage import Database


@pytest.fixture
def scale(registry: Registry, tmp_path: Path) -> Digest:
    """An uploaded ONNX model of y = 2x."""
    return upload(registry, write_onnx_scale(tmp_path / "scale.onnx").read_bytes())


def test_pushed_model_becomes_a_version(registry: Registry, scale: Digest) -> None:
    """Format, precision, signature and golden set of its flavor are what the runtime and the user's set say."""
    golden = upload(registry, golden_bytes())
    lineage = Lineage(note="from the lab", code_digest=digest_of(b"code"))
    version = registry.create_version(model="scale", artifact=scale, golden=golden, lineage=lineage, actor=ACTOR)
    assert (version.model, version.number, version.lineage, version.created_by) == ("scale", 1, lineage, ACTOR)
    (registered,) = version.flavors
    flavor = registered.flavor
    assert (flavor.name, flavor.format, flavor.precision, flavor.digest) == ("onnx-fp32", "onnx", "fp32", scale)
    assert flavor.total_bytes == registry.artifact_bytes(scale)
    assert [spec.describe_shape() for spec in flavor.signature.inputs] == ["[?, 4]"]
    assert flavor.golden_digest is not None
    stored = decode_golden(b"".join(registry.open_artifact(flavor.golden_digest)))
    np.testing.assert_array_equal(stored.outputs["y"], stored.inputs["x"] * 2)
    assert flavor.golden_bytes == registry.artifact_bytes(flavor.golden_digest)
    assert registry.get_version("scale") == version


def test_versions_count_up_and_the_newest_is_the_default(registry: Registry, scale: Digest, tmp_path: Path) -> None:
    """Each push is the next number; earlier ones stay."""
    other = upload(registry, write_onnx_scale(tmp_path / "other.onnx", factor=3.0).read_bytes())
    for artifact in (scale, other):
        registry.create_version(model="scale", artifact=artifact, actor=ACTOR)
    assert [version.number for version in registry.list_versions("scale")] == [2, 1]
    assert registry.get_version("scale").flavors[0].flavor.digest == other
    assert registry.get_version("scale", 1).flavors[0].flavor.digest == scale


def test_concurrent_creations_get_distinct_numbers(registry: Registry, database: Database, tmp_path: Path) -> None:
    """However many arrive at once: 1 to n, none twice, none left out; the first of them makes the model."""
    count = 6
    together = threading.Barrier(count)

    def create(index: int) -> int:
        together.wait()
        return train_version(registry, database, tmp_path, run_id=f"{index + 1:016x}").number

    with ThreadPoolExecutor(count) as pool:
        numbers = list(pool.map(create, range(count)))
    assert sorted(numbers) == list(range(1, count + 1))
    assert [version.number for version in registry.list_versions("digits")] == list(range(count, 0, -1))


def test_refused_push_leaves_no_version(registry: Registry, scale: Digest) -> None:
    """A golden set that the model contradicts costs a message, and neither a version nor a model."""
    golden = upload(registry, golden_bytes(factor=3.0))
    with pytest.raises(InvalidArgument, match="contradicts its golden set"):
        registry.create_version(model="scale", artifact=scale, golden=golden, actor=ACTOR)
    assert registry.list_models() == []
    with pytest.raises(NotFound, match="no model 'scale'"):
        registry.get_version("scale")


def test_examination_leaves_nothing_behind(registry: Registry, scale: Digest, tmp_path: Path) -> None:
    """The copies that were examined are gone, also of a model that was refused."""
    registry.create_version(model="scale", artifact=scale, actor=ACTOR)
    with pytest.raises(InvalidArgument):
        registry.create_version(model="scale", artifact=upload(registry, b"no model"), actor=ACTOR)
    assert list((tmp_path / "scratch" / "examination").iterdir()) == []


def test_artifact_must_be_uploaded_first(registry: Registry) -> None:
    """A version of bytes that never came is refused in words."""
    with pytest.raises(NotFound, match="no artifact") as refused:
        registry.create_version(model="scale", artifact=digest_of(b"?"), actor=ACTOR)
    assert refused.value.hint == "upload it first"


def test_parent_must_exist(registry: Registry, scale: Digest) -> None:
    """Lineage names real versions only."""
    with pytest.raises(InvalidArgument, match="has no version 7"):
        registry.create_version(model="scale", artifact=scale, lineage=Lineage(parent_version=7), actor=ACTOR)
    first = registry.create_version(model="scale", artifact=scale, actor=ACTOR)
    lineage = Lineage(parent_version=first.number)
    assert registry.create_version(model="scale", artifact=scale, lineage=lineage, actor=ACTOR).lineage == lineage


def test_lineage_of_no_digest_is_refused(registry: Registry, scale: Digest) -> None:
    """A digest of code is a digest."""
    with pytest.raises(WireError, match="not a SHA-256"):
        registry.create_version(model="scale", artifact=scale, lineage=Lineage(code_digest="main"), actor=ACTOR)


def test_every_change_is_audited(registry: Registry, scale: Digest, database: Database) -> None:
    """Who made which version and which flavor of which bytes stands in the log."""
    registry.create_version(model="scale", artifact=scale, actor=ACTOR)
    registry.add_flavor("scale", 1, make_flavor(registry), evaluation(), actor="job")
    with database.read() as connection:
        entries = [(each.actor, each.action, each.subject) for each in read_audit_entries(connection)]
        details = [each.detail for each in read_audit_entries(connection)]
    assert entries == [
        (ACTOR, "model.version.create", "scale"),
        ("job", "model.flavor.add", "scale:1"),
    ]
    assert '"version":1' in details[0]
    assert scale in details[0]


def test_flavors_join_a_version(registry: Registry, database: Database, tmp_path: Path) -> None:
    """Compression adds to a version what was measured; its number stays."""
    version = train_version(registry, database, tmp_path)
    flavor = make_flavor(registry)
    registry.add_flavor("digits", version.number, flavor, evaluation(), actor=ACTOR)
    found = registry.get_version("digits")
    assert found.number == version.number
    added = found.flavor("onnx-int8")
    assert added is not None
    assert (added.flavor, added.evaluation) == (flavor, evaluation())
    assert (found.runnable, found.deployable) == ((flavor,), ())


def test_flavor_is_never_replaced(registry: Registry, database: Database, tmp_path: Path) -> None:
    """A second flavor of a name is refused, and the first stays as it is."""
    train_version(registry, database, tmp_path)
    first = make_flavor(registry)
    registry.add_flavor("digits", 1, first, actor=ACTOR)
    with pytest.raises(AlreadyExists, match="digits:1 has a flavor onnx-int8"):
        registry.add_flavor("digits", 1, make_flavor(registry, content=b"another"), actor=ACTOR)
    kept = registry.get_version("digits").flavor("onnx-int8")
    assert kept is not None
    assert kept.flavor == first


def test_flavor_of_an_unknown_version_is_refused(registry: Registry) -> None:
    """Flavors join what exists."""
    with pytest.raises(NotFound, match="no version 3 of 'digits'"):
        registry.add_flavor("digits", 3, make_flavor(registry), actor=ACTOR)


def test_run_leaves_one_version(registry: Registry, database: Database, tmp_path: Path) -> None:
    """A coordinator that was killed after it made the version makes no second one for the same run."""
    first = train_version(registry, database, tmp_path)
    path = tmp_path / "again.npz"
    path.write_bytes(encode_tensors({"weight": np.zeros(3, np.float32)}))
    again = registry.create_arrays_version(model="digits", path=path, lineage=first.lineage, actor=ACTOR)
    assert again == first
    with database.read() as connection:
        assert len(list(read_audit_entries(connection))) == 1
    (registered,) = first.flavors
    assert (registered.flavor.name, registered.flavor.format) == ("arrays-fp32", "arrays")
    assert registered.flavor.signature == Signature(inputs=(), outputs=())
    assert registered.flavor.golden_digest is None
    assert train_version(registry, database, tmp_path, run_id="00000000000000b2").number == 2


def test_pushed_lineage_does_not_pass_for_a_run(registry: Registry, scale: Digest, tmp_path: Path) -> None:
    """An operator's push that claims a run does not stand in the way of what the run really leaves."""
    registry.create_version(model="digits", artifact=scale, lineage=Lineage(run_id="a1"), actor=ACTOR)
    path = tmp_path / "arrays.npz"
    path.write_bytes(encode_tensors({"weight": np.zeros(3, np.float32)}))
    version = registry.create_arrays_version(model="digits", path=path, lineage=Lineage(run_id="a1"), actor=ACTOR)
    assert version.number == 2


@pytest.mark.parametrize(
    ("content", "run_id", "problem"),
    [(b"PK no zip", "a1", "no npz file"), (encode_tensors({"w": np.zeros(1)}), "", "names none")],
    ids=["no npz", "no run"],
)
def test_arrays_of_no_run_or_no_npz_are_refused(
    registry: Registry, tmp_path: Path, content: bytes, run_id: str, problem: str
) -> None:
    """A trained version is an npz that a run left."""
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=problem):
        registry.create_arrays_version(model="digits", path=path, lineage=Lineage(run_id=run_id), actor=ACTOR)


def test_list_shows_each_model_with_its_newest_version(
    registry: Registry, database: Database, scale: Digest, tmp_path: Path
) -> None:
    """A line a model, by name, with the flavors of the newest version only."""
    train_version(registry, database, tmp_path)
    registry.create_version(model="digits", artifact=scale, actor=ACTOR)
    registry.create_version(model="a-scale", artifact=scale, actor=ACTOR)
    listed = [(each.name, each.newest_version, each.flavors) for each in registry.list_models()]
    assert listed == [("a-scale", 1, ("onnx-fp32",)), ("digits", 2, ("onnx-fp32",))]
