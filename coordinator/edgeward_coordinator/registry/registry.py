"""The registry: artifacts, and the immutable versions of models that name them.

Invariants:
- An artifact's row exists only after its bytes lie verified in the object store.
- A version, its first flavor and the audit entry come in one transaction.
- Flavors join a version and never change or leave.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeward.protocol.digests import Digest, digest_of_file, parse_digest
from edgeward.protocol.golden import encode_golden
from edgeward.protocol.model import Flavor, Signature
from edgeward_coordinator.errors import AlreadyExists, InvalidArgument, NotFound
from edgeward_coordinator.registry import store
from edgeward_coordinator.registry.intake import ExaminedModel, examine_model
from edgeward_coordinator.registry.uploads import Uploads
from edgeward_coordinator.registry.version import (
    ARRAYS_FLAVOR,
    Evaluation,
    Lineage,
    ModelSummary,
    ModelVersion,
    RegisteredFlavor,
    RegisteredPatch,
    verify_name,
)
from edgeward_coordinator.storage import Change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from edgeward.durable import PartialFile
    from edgeward.protocol.model import Format
    from edgeward_coordinator.storage import BlobStore, Database

MAX_UPLOAD_BYTES: Final = 2 << 30
_RESERVE_BYTES: Final = 64 << 20
_MAX_GOLDEN_BYTES: Final = 64 << 20
_MAX_NOTE: Final = 2000
_MAX_ID: Final = 64


class Registry:
    """Models and artifacts; thread-safe.

    Args:
        database: Where rows live.
        blobs: Where bytes live.
        scratch: A folder of this coordinator's own for uploads under way and files under examination.
        max_upload_bytes: The most that one artifact may have.
        reserve_bytes: How much of the scratch disk uploads must leave free.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        scratch: Path,
        *,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        reserve_bytes: int = _RESERVE_BYTES,
    ) -> None:
        self._database = database
        self._blobs = blobs
        # What a killed process left here under examination is of no use to anyone.
        self._examination = scratch / "examination"
        shutil.rmtree(self._examination, ignore_errors=True)
        self._examination.mkdir(parents=True)
        self._uploads = Uploads(
            scratch / "uploads", max_bytes=max_upload_bytes, reserve_bytes=reserve_bytes, clock=database.clock
        )

    def claim_upload(self, digest: Digest) -> AbstractContextManager[None]:
        """Be the one who uploads this artifact; held around `begin_upload` to `finish_upload`.

        Raises:
            Unavailable: On entering: somebody else uploads it now.
        """
        return self._uploads.claim(digest)

    def begin_upload(self, digest: Digest, total_bytes: int) -> PartialFile | None:
        """Receive an artifact, or go on with what an earlier attempt left.

        Returns:
            The partial file; None where the artifact is here already.

        Raises:
            InvalidArgument: Its length is not one that an upload may have, or not the artifact's.
            FailedPrecondition: The disk has no room for it.
        """
        with self._database.read() as connection:
            known_bytes = store.artifact_bytes(connection, digest)
        if known_bytes is None or not self._blobs.exists(digest):
            return self._uploads.open(digest, total_bytes)
        if known_bytes != total_bytes:
            raise InvalidArgument(f"artifact {digest[:12]} has {known_bytes} bytes, not {total_bytes}")
        return None

    def finish_upload(self, partial: PartialFile, digest: Digest) -> None:
        """Make the artifact out of what has arrived; idempotent.

        Raises:
            WireError: The bytes are not those that were announced.
            Unavailable: The object store or the database is away; what has arrived stays.
        """
        path = partial.commit()
        self._blobs.put_file(digest, path)
        # Of the bytes themselves: where an earlier attempt verified them, nothing has checked what this one announced.
        self._note_artifact(digest, path.stat().st_size)
        self._uploads.remove(digest)

    def store_artifact(self, path: Path) -> tuple[Digest, int]:
        """Make an artifact of a local file that nobody changes any more; returns its digest and length."""
        digest, total_bytes = digest_of_file(path), path.stat().st_size
        self._blobs.put_file(digest, path)
        self._note_artifact(digest, total_bytes)
        return digest, total_bytes

    def artifact_bytes(self, digest: Digest) -> int:
        """The length of an artifact.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            total_bytes = store.artifact_bytes(connection, digest)
        if total_bytes is None:
            raise NotFound(f"no artifact {digest[:12]}", hint="upload it first")
        return total_bytes

    def open_artifact(self, digest: Digest, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an artifact from `offset` on, in pieces of at most 256 KiB.

        Raises:
            NotFound: There is none.
            InvalidArgument: The offset is past the end.
        """
        total_bytes = self.artifact_bytes(digest)
        if not 0 <= offset <= total_bytes:
            raise InvalidArgument(f"artifact {digest[:12]} has {total_bytes} bytes; there is no byte {offset}")
        return self._blobs.read(digest, offset=offset, total_bytes=total_bytes)

    def copy_artifact(self, digest: Digest, path: Path) -> None:
        """Write an artifact to a local file.

        Raises:
            NotFound: There is none.
        """
        with path.open("wb") as file:
            file.writelines(self.open_artifact(digest))

    def scratch_folder(self) -> AbstractContextManager[Path]:
        """A folder for work on artifacts, gone with all that is in it when this is left."""
        return _temporary_folder(self._examination)

    def create_version(
        self,
        *,
        model: str,
        artifact: Digest,
        golden: Digest | None = None,
        format: Format | None = None,  # noqa: A002  # the word of the wire
        lineage: Lineage | None = None,
        actor: str,
    ) -> ModelVersion:
        """Open and run an uploaded model in a process of its own, then make it the next version.

        Args:
            model: The model's name; made if it is new.
            artifact: The uploaded file.
            golden: The uploaded golden set; None has one made, see `intake`.
            format: What the file is; None leaves it to its bytes.
            lineage: Where it comes from.
            actor: Who asks.

        Returns:
            The version.

        Raises:
            NotFound: An artifact is not here.
            InvalidArgument: The name, the file, the golden set or the lineage can't be used.
        """
        verify_name(model, of="a model")
        origin = lineage or Lineage()
        _verify_lineage(origin)
        total_bytes = self.artifact_bytes(artifact)
        examined = self._examine(artifact, format, self._read_golden(golden))
        golden_digest, golden_bytes = self._store_bytes(encode_golden(examined.golden))
        flavor = Flavor(
            name=f"{examined.format}-{examined.precision}",
            format=examined.format,
            precision=examined.precision,
            digest=artifact,
            total_bytes=total_bytes,
            golden_digest=golden_digest,
            golden_bytes=golden_bytes,
            signature=examined.signature,
        )
        return self._insert_version(model, flavor, origin, actor=actor)

    def create_arrays_version(self, *, model: str, path: Path, lineage: Lineage, actor: str) -> ModelVersion:
        """Make what a federated run learned the next version; again for the same run gives the same version.

        Args:
            model: The model's name; made if it is new.
            path: An npz of the parameters by name, in the module's order.
            lineage: Names the run.
            actor: Who started the run.

        Raises:
            InvalidArgument: No run is named, or the file is no npz.
        """
        verify_name(model, of="a model")
        if not lineage.run_id:
            raise InvalidArgument("a version of arrays comes out of a run, and its lineage names none")
        if not zipfile.is_zipfile(path):
            raise InvalidArgument(f"what run {lineage.run_id} left is no npz file")
        with self._database.read() as connection:
            number = store.version_of_run(connection, model, lineage.run_id)
        if number is not None:
            return self.get_version(model, number)
        digest, total_bytes = self.store_artifact(path)
        flavor = Flavor(
            name=ARRAYS_FLAVOR,
            format="arrays",
            precision="fp32",
            digest=digest,
            total_bytes=total_bytes,
            golden_digest=None,
            golden_bytes=0,
            signature=Signature(inputs=(), outputs=()),
        )
        return self._insert_version(model, flavor, lineage, run_id=lineage.run_id, actor=actor)

    def add_flavor(
        self,
        model: str,
        number: int,
        flavor: Flavor,
        evaluation: Evaluation | None = None,
        *,
        actor: str,
        job_id: str = "",
    ) -> RegisteredFlavor:
        """Add a flavor to a version; devices hear of it once it is approved and signed.

        Args:
            model: The model.
            number: Its version.
            flavor: What joins.
            evaluation: How it did on held-out data.
            actor: Whose it is: who asks, or who started the job.
            job_id: The job that made it.

        Raises:
            NotFound: No such version, or an artifact of the flavor is not here.
            AlreadyExists: The version has a flavor of that name; it stays as it is.
        """
        verify_name(flavor.name, of="a flavor")
        for digest in filter(None, (flavor.digest, flavor.golden_digest)):
            self.artifact_bytes(digest)
        registered = RegisteredFlavor(
            flavor=flavor, evaluation=evaluation, created_at=self._database.clock(), created_by=actor
        )
        change = Change(
            actor=f"{actor} (job {job_id})" if job_id else actor,
            action="model.flavor.add",
            subject=f"{model}:{number}",
            detail={"flavor": flavor.name, "sha256": flavor.digest},
        )
        with self._database.change(change) as connection:
            if not store.has_version(connection, model, number):
                raise _no_version(model, number)
            if not store.insert_flavor(connection, model, number, registered):
                raise AlreadyExists(
                    f"{model}:{number} has a flavor {flavor.name}", hint="a flavor never changes; make a new version"
                )
        return registered

    def get_version(self, model: str, number: int | None = None) -> ModelVersion:
        """One version; the newest where no number is given.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            wanted = store.newest_number(connection, model) if number is None else number
            found = store.load_versions(connection, model, number=wanted) if wanted else []
        if not found:
            raise _no_version(model, number)
        return found[0]

    def list_versions(self, model: str) -> list[ModelVersion]:
        """All versions, newest first.

        Raises:
            NotFound: There is no such model.
        """
        with self._database.read() as connection:
            versions = store.load_versions(connection, model)
        if not versions:
            raise _no_version(model, None)
        return versions

    def patches_to(self, version: ModelVersion) -> dict[Digest, list[RegisteredPatch]]:
        """The patches to the artifacts of a version, with the versions that they start from."""
        digests = [each.flavor.digest for each in version.flavors]
        with self._database.read() as connection:
            found = store.patches_to(connection, digests)
            bases = {patch.base_digest for patches in found.values() for patch in patches}
            numbers = store.newest_numbers_with(connection, version.model, bases)
        return {
            digest: [replace(patch, base_version=numbers.get(patch.base_digest, 0)) for patch in patches]
            for digest, patches in found.items()
        }

    def list_models(self) -> list[ModelSummary]:
        """All models by name."""
        with self._database.read() as connection:
            return store.load_summaries(connection)

    def _insert_version(
        self, model: str, flavor: Flavor, lineage: Lineage, *, run_id: str = "", actor: str
    ) -> ModelVersion:
        now = self._database.clock()
        detail: dict[str, Any] = {"flavor": flavor.name, "sha256": flavor.digest, "lineage": asdict(lineage)}
        change = Change(actor=actor, action="model.version.create", subject=model, detail=detail)
        with self._database.change(change) as connection:
            store.lock_model(connection, model, at=now, actor=actor)
            if lineage.parent_version and not store.has_version(connection, model, lineage.parent_version):
                raise InvalidArgument(f"{model} has no version {lineage.parent_version} to be the parent")
            number = store.version_of_run(connection, model, run_id) if run_id else None
            if number is None:
                number = store.insert_version(connection, model, lineage, at=now, actor=actor)
                registered = RegisteredFlavor(flavor=flavor, evaluation=None, created_at=now, created_by=actor)
                store.insert_flavor(connection, model, number, registered)
            detail["version"] = number  # known only now; the entry is written when the transaction closes
        return self.get_version(model, number)

    def _note_artifact(self, digest: Digest, total_bytes: int) -> None:
        with self._database.write() as connection:
            store.insert_artifact(connection, digest, total_bytes, at=self._database.clock())

    def _examine(self, artifact: Digest, claimed: Format | None, golden: bytes | None) -> ExaminedModel:
        with self.scratch_folder() as folder:
            path = folder / "model"
            self.copy_artifact(artifact, path)
            return examine_model(path, claimed_format=claimed, golden=golden)

    def _read_golden(self, digest: Digest | None) -> bytes | None:
        if digest is None:
            return None
        total_bytes = self.artifact_bytes(digest)
        if total_bytes > _MAX_GOLDEN_BYTES:
            raise InvalidArgument(f"a golden set has at most {_MAX_GOLDEN_BYTES} bytes, not {total_bytes}")
        return self._blobs.read_whole(digest, total_bytes=total_bytes)

    def _store_bytes(self, data: bytes) -> tuple[Digest, int]:
        with self.scratch_folder() as folder:
            path = folder / "golden.npz"
            path.write_bytes(data)
            return self.store_artifact(path)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def _verify_lineage(lineage: Lineage) -> None:
    if lineage.parent_version < 0 or len(lineage.note) > _MAX_NOTE:
        raise InvalidArgument(f"a lineage has a parent of 1 or more, 0 for none, and a note of {_MAX_NOTE} characters")
    for digest in filter(None, (lineage.code_digest, lineage.data_digest, lineage.environment_digest)):
        parse_digest(digest)
    for identity in (lineage.run_id, lineage.job_id):
        if len(identity) > _MAX_ID:
            raise InvalidArgument(f"{identity[:80]!r} is no id of a run or a job")


def _no_version(model: str, number: int | None) -> NotFound:
    if number is None:
        return NotFound(f"no model {model[:80]!r}", hint="edgeward models list shows all")
    return NotFound(f"no version {number} of {model[:80]!r}", hint=f"edgeward models show {model[:80]} shows all")
