"""The patches to a version: made once, before it is signed, from what devices are likely to have.

From a flavor of a former version to the flavor of the same name, each pair in a
process of its own with limits on its memory and time; all pairs together have
`BUDGET`, for somebody waits for it. A patch is kept where it saves
enough to be worth an artifact. A pair that gives none costs a line in the log and
nothing else: devices then fetch the whole file.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from edgeward_compression.patches import PatchError
from edgeward_compression.patches.process import make_patch_in_child
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.registry import store
from edgeward_coordinator.registry.version import RegisteredPatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from edgeward.protocol.model import Flavor
    from edgeward_coordinator.registry.registry import Registry
    from edgeward_coordinator.registry.version import ModelVersion
    from edgeward_coordinator.storage import Database

_LOG = logging.getLogger(__name__)

FORMER_VERSIONS: Final = 3
MAX_BASES: Final = 8
WORTH_RATIO: Final = 0.9
BUDGET: Final = timedelta(minutes=5)


def make_patches(
    registry: Registry, database: Database, *, model: str, number: int, budget: timedelta = BUDGET
) -> list[RegisteredPatch]:
    """Make what is missing of the patches to a version; takes seconds, with large models minutes.

    Args:
        registry: Has the artifacts, and gets the patches.
        database: Where the rows of the patches go.
        model: The model.
        number: The version that devices shall get.
        budget: How long all of it may take; the pairs for which it is too short get no patch.

    Returns:
        All patches to the version's flavors, those of earlier calls too.

    Raises:
        NotFound: There is no such version.
        Unavailable: The database or the object store is away.
    """
    version = registry.get_version(model, number)
    with database.read() as connection:
        in_use = store.versions_in_use(connection, model)
        known = store.patches_to(connection, [flavor.digest for flavor in version.runnable])
    bases = choose_bases(version, registry.list_versions(model), in_use=in_use)
    deadline = time.monotonic() + budget.total_seconds()
    made: list[RegisteredPatch] = []
    for base, target in _pairs(bases, version):
        if any(patch.base_digest == base.digest for patch in known.get(target.digest, [])):
            continue
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            _LOG.warning("patch %s: none made, the time for this version's patches is over", _describe(base, target))
            continue
        patch = _make_patch(registry, database, base, target, timeout_s=left_s)
        made += [patch] if patch else []
    return [*(patch for patches in known.values() for patch in patches), *made]


def choose_bases(
    version: ModelVersion, versions: Sequence[ModelVersion], *, in_use: Collection[int]
) -> list[ModelVersion]:
    """The versions that devices are likely to have when they get this one, newest first.

    Args:
        version: The one that they shall get.
        versions: All of the model.
        in_use: The numbers of those that are deployed or being rolled out.
    """
    signed = [each for each in versions if each.deployable and each.number != version.number]
    newest_first = sorted(signed, key=lambda each: each.number, reverse=True)
    deployed = [each for each in newest_first if each.number in in_use]
    former = [each for each in newest_first if each.number < version.number][:FORMER_VERSIONS]
    chosen = {each.number: each for each in (*former, *deployed)}
    return list(chosen.values())[:MAX_BASES]


def _pairs(bases: Sequence[ModelVersion], version: ModelVersion) -> Iterator[tuple[Flavor, Flavor]]:
    for target in version.runnable:
        seen = {target.digest}
        for base in (flavor for each in bases for flavor in each.deployable if flavor.name == target.name):
            if base.digest not in seen:
                seen.add(base.digest)
                yield base, target


def _make_patch(
    registry: Registry, database: Database, base: Flavor, target: Flavor, *, timeout_s: float
) -> RegisteredPatch | None:
    try:
        with registry.scratch_folder() as folder:
            files = {digest: folder / digest for digest in (base.digest, target.digest)}
            for digest, path in files.items():
                registry.copy_artifact(digest, path)
            patch = folder / "patch"
            info = make_patch_in_child(files[base.digest], files[target.digest], patch, timeout_s=timeout_s)
            if info.total_bytes > WORTH_RATIO * target.total_bytes:
                _LOG.info("patch %s: %d bytes save too little", _describe(base, target), info.total_bytes)
                return None
            digest, total_bytes = registry.store_artifact(patch)
    except (PatchError, NotFound, OSError) as error:
        _LOG.warning("patch %s: none could be made: %s", _describe(base, target), error)
        return None
    made = RegisteredPatch(base_digest=base.digest, digest=digest, total_bytes=total_bytes)
    with database.write() as connection:
        store.insert_patch(connection, target.digest, made, at=database.clock())
    _LOG.info("patch %s: %d of %d bytes", _describe(base, target), total_bytes, target.total_bytes)
    return made


def _describe(base: Flavor, target: Flavor) -> str:
    return f"from {base.digest[:12]} to {target.digest[:12]} ({target.name})"
