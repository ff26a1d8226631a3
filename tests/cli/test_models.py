"""The registry by command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeward.protocol.digests import digest_of_file
from edgeward.v1 import registry_pb2, transfer_pb2
from edgeward_server.client import connected, load_contexts
from tests.cli.enrolling import enroll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Operator

WIDTH = 512


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """Y = x W, of a megabyte, so that it takes several chunks; no two tests have the same."""
    weights = np.random.default_rng(abs(hash(str(tmp_path)))).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_pushed_model_becomes_a_version(admin: Operator, model_file: Path) -> None:
    """With its signature; a second push of the name is the next version, with its lineage."""
    first = admin.document("models", "push", "pushed", model_file)
    second = admin.document("models", "push", "pushed", model_file, "--parent", "1", "--note", "again")
    assert (first["version"], second["version"]) == (1, 2)
    (flavor,) = first["flavors"]
    assert flavor["flavor"]["sha256"] == digest_of_file(model_file)
    assert flavor["flavor"]["signature"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, WIDTH]}]
    assert (second["lineage"]["parent_version"], second["lineage"]["note"]) == (1, "again")


def test_a_version_is_shown_with_its_flavors_and_signature(admin: Operator, model_file: Path) -> None:
    """Without a version all of them, newest first."""
    for _ in range(2):
        admin.document("models", "push", "shown", model_file)
    shown = admin("models", "show", "shown").out
    assert shown.index("shown:2") < shown.index("shown:1")
    assert "[?, 512]" in shown
    assert "shown:2" not in admin("models", "show", "shown:1").out


def test_a_golden_set_that_does_not_fit_is_refused(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """In one sentence, and no version comes of it."""
    golden = tmp_path / "golden.npz"
    ones = np.ones((1, WIDTH), np.float32)
    np.savez(golden, **{"input.z": ones, "output.y": ones})  # type: ignore[arg-type]
    result = admin("models", "push", "unfit", model_file, "--golden", golden)
    assert result.code == 1
    assert "'z'" in result.err
    assert admin("models", "show", "unfit").code == 1


def test_what_is_no_model_is_refused(admin: Operator, tmp_path: Path) -> None:
    """The server lives on."""
    file = tmp_path / "story.txt"
    file.write_text("once upon a time")
    result = admin("models", "push", "story", file)
    assert result.code == 1
    assert len(result.err.splitlines()) <= 2
    assert admin("models", "list").code == 0


def test_a_pulled_model_is_the_pushed_one(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """To the byte; doing it again changes nothing."""
    admin.document("models", "push", "pulled", model_file)
    out = tmp_path / "copy.onnx"
    for _ in range(2):
        assert admin("models", "pull", "pulled:1", "--out", out).code == 0
        assert out.read_bytes() == model_file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy.onnx", "product.onnx"]


def test_a_file_that_is_something_else_is_not_overwritten(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """The operator decides."""
    admin.document("models", "push", "kept", model_file)
    out = tmp_path / "notes.txt"
    out.write_text("precious")
    assert admin("models", "pull", "kept", "--out", out).code == 1
    assert out.read_text() == "precious"


def test_a_device_file_is_not_written_to(admin: Operator, model_file: Path) -> None:
    """Nor read until its end, which never comes."""
    admin.document("models", "push", "zero", model_file)
    result = admin("models", "pull", "zero", "--out", "/dev/zero")
    assert result.code == 1
    assert "no ordinary file" in result.err


def test_an_interrupted_download_is_resumed(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """What is here is not fetched again: the head that was put there is in the result."""
    version = admin.document("models", "push", "resumed", model_file)
    digest = version["flavors"][0]["flavor"]["sha256"]
    out = tmp_path / "copy.onnx"
    head = model_file.read_bytes()[:300_000]
    (tmp_path / f".copy.onnx.{digest[:16]}.part").write_bytes(head)
    assert admin("models", "pull", "resumed", "--out", out).code == 0
    assert out.read_bytes() == model_file.read_bytes()


def test_a_damaged_download_is_found_and_thrown_away(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """The next attempt starts over and succeeds."""
    version = admin.document("models", "push", "damaged", model_file)
    digest = version["flavors"][0]["flavor"]["sha256"]
    out = tmp_path / "copy.onnx"
    (tmp_path / f".copy.onnx.{digest[:16]}.part").write_bytes(b"\0" * 300_000)
    result = admin("models", "pull", "damaged", "--out", out)
    assert result.code == 1
    assert "damaged on the way" in result.err
    assert not out.exists()
    assert admin("models", "pull", "damaged", "--out", out).code == 0


def test_an_interrupted_upload_is_resumed(admin: Operator, model_file: Path) -> None:
    """The coordinator kept what had arrived, and asks for the rest."""
    data = model_file.read_bytes()
    header = transfer_pb2.UploadHeader(sha256=digest_of_file(model_file), total_bytes=len(data))
    head = transfer_pb2.Chunk(offset=0, data=data[:300_000])
    with connected(load_contexts(admin.config_folder).pick()) as client:
        started = [
            registry_pb2.UploadArtifactRequest(header=header),
            registry_pb2.UploadArtifactRequest(chunk=head),
        ]
        with pytest.raises(Exception, match="bytes"):
            list(client.registry.UploadArtifact(iter(started), timeout=30))
        for answer in client.registry.UploadArtifact(iter(started[:1]), timeout=30):
            assert answer.ready.offset == 300_000
            break
    assert admin.document("models", "push", "uploaded", model_file)["version"] == 1


def test_a_flavor_must_be_named_where_there_is_no_such(admin: Operator, model_file: Path, tmp_path: Path) -> None:
    """The hint names the ones there are."""
    admin.document("models", "push", "flavored", model_file)
    result = admin("models", "pull", "flavored", "--flavor", "onnx-int4", "--out", tmp_path / "x")
    assert result.code == 1
    assert "hint: it has onnx-fp32" in result.err


def test_a_withdrawn_version_can_not_be_deployed(admin: Operator, model_file: Path) -> None:
    """Until it is approved again."""
    admin.document("models", "push", "withdrawn", model_file)
    assert admin("models", "approve", "withdrawn:1").code == 0
    assert admin("models", "withdraw", "withdrawn:1", "--reason", "wrong labels").code == 0
    assert admin("deploy", "withdrawn:1", "--group", "nobody").code == 1
    assert admin("models", "approve", "withdrawn:1").code == 0
    assert admin("deploy", "withdrawn:1", "--group", "nobody").code == 0


def test_a_version_is_deployed_again(admin: Operator, model_file: Path) -> None:
    """Only where that is asked for: then devices try again what they refused."""
    admin.document("models", "push", "retried", model_file)
    assert admin("models", "approve", "retried:1").code == 0
    first, same = (admin.document("deploy", "retried:1", "--group", "nobody") for _ in range(2))
    again = admin.document("deploy", "retried:1", "--group", "nobody", "--again")
    assert int(same["generation"]) == int(first["generation"]) < int(again["generation"])


def test_an_approval_names_its_version(admin: Operator, model_file: Path) -> None:
    """The newest of a moment ago may be another one now."""
    admin.document("models", "push", "nameless", model_file)
    result = admin("models", "approve", "nameless")
    assert result.code == 2
    assert "nameless:1" in result.err


def test_a_deployment_is_listed_until_it_is_removed(admin: Operator, model_file: Path) -> None:
    """With nobody in the group it has been reached at once."""
    admin.document("models", "push", "deployed", model_file)
    refused = admin("deploy", "deployed", "--group", "empty")
    assert refused.code == 1
    assert "approve" in refused.err
    approved = admin.document("models", "approve", "deployed:1", "--reason", "looked at it")
    assert approved["waiting_for_roles"] == []
    assert all(flavor["signed_at"] and flavor["approved_by"] for flavor in approved["flavors"])
    deployment = admin.document("deploy", "deployed", "--group", "empty", "--wait")
    assert (deployment["version"], deployment["devices"]) == (1, 0)
    listed = admin.document("deployments", "list", "--group", "empty")
    assert [each["model"] for each in listed] == ["deployed"]
    assert admin("undeploy", "deployed", "--group", "empty").code == 0
    assert admin.document("deployments", "list", "--group", "empty") == []


def test_waiting_for_a_device_that_is_away_ends_with_its_name(admin: Operator, model_file: Path) -> None:
    """Exit code 1; who lacks it and why."""
    enroll(admin, group="asleep", name="sleeper")
    admin.document("models", "push", "awaited", model_file)
    assert admin("models", "approve", "awaited:1").code == 0
    result = admin("deploy", "awaited", "--group", "asleep", "--wait", "--timeout", "1s")
    assert result.code == 1
    assert "only 0 of 1 devices serve awaited:1" in result.err
    assert "sleeper: enrolled, not there yet" in result.err


def test_a_version_that_does_not_exist_can_not_be_deployed(admin: Operator, model_file: Path) -> None:
    """The coordinator says no."""
    admin.document("models", "push", "short", model_file)
    result = admin("deploy", "short:9", "--group", "empty")
    assert result.code == 1
    assert "9" in result.err.splitlines()[0]
