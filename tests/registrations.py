"""Ways to fill a registry in a test: uploads, versions of real tiny models, versions that a run left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import insert, update

from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.golden import GoldenSet, encode_golden
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward.protocol.tensors import encode_tensors
from edgeward_coordinator.registry import Evaluation, Lineage, ModelVersion, Registry
from edgeward_coordinator.storage import schema

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Format, Precision
    from edgeward_coordinator.storage import Database

ACTOR = "ada"
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 4)),),
)


def upload(registry: Registry, data: bytes, *, chunk_bytes: int = 64 << 10) -> Digest:
    """Bring bytes in as an uploader does; returns their digest."""
    digest = digest_of(data)
    with registry.claim_upload(digest):
        partial = registry.begin_upload(digest, len(data))
        if partial is not None:
            while partial.offset < len(data):
                partial.append(partial.offset, data[partial.offset : partial.offset + chunk_bytes])
            registry.finish_upload(partial, digest)
    return digest


def golden_bytes(*, factor: float = 2.0, tolerance: float | None = None) -> bytes:
    """The golden set of `tiny_models`' scale, as a user saves it."""
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    arrays = {"input.x": x, "output.y": x * np.float32(factor)}
    return encode_tensors(arrays | ({"tolerance": np.array(tolerance)} if tolerance else {}))


def make_flavor(
    registry: Registry, *, form: Format = "onnx", precision: Precision = "int8", name: str = "", content: bytes = b""
) -> Flavor:
    """A flavor whose artifacts are here."""
    x = np.ones((1, 4), np.float32)
    golden = encode_golden(GoldenSet(inputs={"x": x}, outputs={"y": x}, tolerance=0.1))
    data = content or f"{form} {precision} {name}".encode()
    return Flavor(
        name=name or f"{form}-{precision}",
        format=form,
        precision=precision,
        digest=upload(registry, data),
        total_bytes=len(data),
        golden_digest=upload(registry, golden),
        golden_bytes=len(golden),
        signature=SIGNATURE,
    )


def sign_everything(database: Database) -> None:
    """Have every flavor count as approved and signed, for tests that need no metadata of it."""
    signed = {"approved_at": database.clock(), "approved_by": ACTOR, "signed_at": database.clock()}
    with database.write() as connection:
        connection.execute(update(schema.flavor).values(signed))


def evaluation(*, latency_p50_s: float = 1e-3) -> Evaluation:
    """Of a hundred examples."""
    return Evaluation(examples=100, accuracy=0.9, latency_p50_s=latency_p50_s, runtime="onnxruntime")


def train_version(
    registry: Registry,
    database: Database,
    folder: Path,
    *,
    model: str = "digits",
    run_id: str = "00000000000000a1",
    bundle: bytes = b"",
) -> ModelVersion:
    """A version that a finished run left, with the run's row and its bundle."""
    digest = upload(registry, bundle or f"bundle of {run_id}".encode())
    insert_run(database, run_id, model=model, bundle=digest)
    path = folder / f"arrays-{run_id}.npz"
    path.write_bytes(encode_tensors({"weight": np.full(3, int(run_id, 16), np.float32)}))
    return registry.create_arrays_version(model=model, path=path, lineage=Lineage(run_id=run_id), actor=ACTOR)


def insert_run(database: Database, run_id: str, *, model: str, bundle: Digest) -> None:
    """The row of a finished run."""
    values = {
        "id": run_id,
        "app": "digits",
        "group_name": "default",
        "state": "finished",
        "rounds": 3,
        "seed": (1 << 40) + 7,
        "bundle_digest": bundle,
        "run_config": {},
        "min_devices": 1,
        "round_timeout_s": 600.0,
        "model": model,
        "created_at": database.clock(),
        "created_by": ACTOR,
        "error": "",
    }
    with database.write() as connection:
        connection.execute(insert(schema.run).values(values))
