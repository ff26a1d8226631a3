"""Patches to a version: from what devices have, once, where they save something, and no harm where none comes out."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import insert, select, update

from edgeward.protocol.digests import digest_of
from edgeward_compression.patches import apply_patch
from edgeward_coordinator.errors import NotFound
from edgeward_coordinator.registry.patching import FORMER_VERSIONS, MAX_BASES, choose_bases, make_patches
from edgeward_coordinator.registry.store import patches_to
from edgeward_coordinator.storage import schema
from tests.registrations import ACTOR, make_flavor, train_version

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward_coordinator.registry import ModelVersion, RegisteredPatch, Registry
    from edgeward_coordinator.storage import Database

CONTENT = np.random.default_rng(0).bytes(5000)
MODEL = "digits"


class Shelf:
    """Versions of one model, filled one by one."""

    def __init__(self, registry: Registry, database: Database, folder: Path) -> None:
        self.registry = registry
        self.database = database
        self._folder = folder

    def add(self, content: bytes, *, signed: bool = True, name: str = "onnx-int8") -> ModelVersion:
        """The next version, with one flavor of this content that is signed or is not."""
        run_id = f"{len(self._versions()) + 1:016x}"
        number = train_version(self.registry, self.database, self._folder, run_id=run_id).number
        flavor = make_flavor(self.registry, name=name, content=content)
        self.registry.add_flavor(MODEL, number, flavor, actor=ACTOR)
        if signed:
            now = self.database.clock()
            of_version = (schema.flavor.c.version == number) & (schema.flavor.c.name == name)
            values = {"approved_at": now, "approved_by": ACTOR, "signed_at": now}
            with self.database.write() as connection:
                connection.execute(update(schema.flavor).where(of_version).values(values))
        return self.registry.get_version(MODEL, number)

    def deploy(self, number: int) -> None:
        """A deployment to some group."""
        now = self.database.clock()
        values = {"version": number, "generation": 1, "release": 1, "created_at": now, "created_by": ACTOR}
        with self.database.write() as connection:
            connection.execute(insert(schema.deployment).values(group_name=f"g{number}", model=MODEL, **values))

    def patch(self, number: int, *, budget: timedelta = timedelta(minutes=1)) -> list[RegisteredPatch]:
        """Make the patches to a version."""
        return make_patches(self.registry, self.database, model=MODEL, number=number, budget=budget)

    def _versions(self) -> list[ModelVersion]:
        try:
            return self.registry.list_versions(MODEL)
        except NotFound:
            return []


@pytest.fixture
def shelf(registry: Registry, database: Database, tmp_path: Path) -> Shelf:
    """An empty shelf."""
    return Shelf(registry, database, tmp_path)


def edited(byte: int) -> bytes:
    return CONTENT[:100] + bytes([byte]) + CONTENT[101:]


def test_patch_is_an_artifact_that_makes_the_target(shelf: Shelf, tmp_path: Path) -> None:
    """Fetched by its digest and applied to the base, it gives the target."""
    shelf.add(edited(1))
    shelf.add(edited(2), signed=False)
    (patch,) = shelf.patch(2)
    assert patch.base_digest == digest_of(edited(1))
    assert patch.total_bytes == shelf.registry.artifact_bytes(patch.digest) < 100
    (tmp_path / "base").write_bytes(edited(1))
    shelf.registry.copy_artifact(patch.digest, tmp_path / "patch")
    apply_patch(tmp_path / "base", tmp_path / "patch", tmp_path / "out", max_bytes=5000)
    assert (tmp_path / "out").read_bytes() == edited(2)


def test_patches_are_found_by_their_target(shelf: Shelf) -> None:
    """The smallest first, which is what a target offers; other targets have none."""
    for content in (CONTENT[:-1000], edited(1), edited(2)):
        shelf.add(content)
    made = shelf.patch(3)
    with shelf.database.read() as connection:
        found = patches_to(connection, [digest_of(edited(2)), digest_of(edited(1))])
    assert found == {digest_of(edited(2)): sorted(made, key=lambda patch: patch.total_bytes)}
    assert [patch.base_digest for patch in found[digest_of(edited(2))]] == [
        digest_of(edited(1)),
        digest_of(CONTENT[:-1000]),
    ]


def test_made_once(shelf: Shelf) -> None:
    """A second call gives what the first made, and makes only what has become possible since."""
    shelf.add(edited(1))
    shelf.add(edited(2), signed=False)
    first = shelf.patch(2)
    with shelf.database.read() as connection:
        rows = connection.execute(select(schema.patch)).all()
    shelf.database.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]  # the set clock of the tests
    assert shelf.patch(2) == first
    with shelf.database.read() as connection:
        assert connection.execute(select(schema.patch)).all() == rows


def test_unsigned_version_is_no_base(shelf: Shelf) -> None:
    """No device has it."""
    shelf.add(edited(1), signed=False)
    shelf.add(edited(2))
    assert shelf.patch(2) == []


def test_flavors_pair_by_name(shelf: Shelf) -> None:
    """A device keeps to its flavor."""
    shelf.add(edited(1), name="tflite-int8")
    shelf.add(edited(2), name="onnx-int8")
    assert shelf.patch(2) == []


def test_unchanged_flavor_needs_no_patch(shelf: Shelf) -> None:
    """A device that has the bytes already fetches nothing."""
    shelf.add(CONTENT)
    shelf.add(CONTENT)
    assert shelf.patch(2) == []


def test_patch_that_saves_little_is_not_kept(shelf: Shelf) -> None:
    """Nine tenths of the file are the limit."""
    other = np.random.default_rng(1).bytes(5000)
    shelf.add(CONTENT)
    shelf.add(CONTENT[:400] + other[400:])
    shelf.add(CONTENT[:400] + other[400:3800] + CONTENT[3800:])
    assert shelf.patch(2) == []
    assert [patch.base_digest for patch in shelf.patch(3)] == [
        digest_of(CONTENT[:400] + other[400:]),
        digest_of(CONTENT),
    ]


def test_unpatchable_pair_costs_a_line_in_the_log(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the base's bytes are gone from the object store; the other base gives its patch."""
    shelf.add(edited(1))
    shelf.add(edited(2))
    shelf.add(edited(3))
    (blob,) = (tmp_path / "objects").rglob(f"*{digest_of(edited(1))}")
    blob.unlink()
    with caplog.at_level(logging.INFO):
        made = shelf.patch(3)
    assert [patch.base_digest for patch in made] == [digest_of(edited(2))]
    assert f"patch from {digest_of(edited(1))[:12]}" in caplog.text


def test_time_of_a_version_is_bounded(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """Where the time is over, pairs go without a patch."""
    shelf.add(edited(1))
    shelf.add(edited(2))
    assert shelf.patch(2, budget=timedelta()) == []
    assert "the time for this version's patches is over" in caplog.text


def test_nothing_stays_on_the_scratch_disk(shelf: Shelf, tmp_path: Path) -> None:
    """The copies that were compared are gone."""
    shelf.add(edited(1))
    shelf.add(edited(2))
    shelf.patch(2)
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


def test_bases_are_the_former_versions_and_those_in_use(shelf: Shelf) -> None:
    """The newest three before it, and what is deployed, older or newer."""
    for byte in range(8):
        shelf.add(edited(byte))
    shelf.deploy(1)
    shelf.deploy(8)
    version = shelf.registry.get_version(MODEL, 7)
    bases = choose_bases(version, shelf.registry.list_versions(MODEL), in_use={1, 8})
    assert [base.number for base in bases] == [6, 5, 4, 8, 1]
    assert len(bases) == FORMER_VERSIONS + 2
    assert {patch.base_digest for patch in shelf.patch(7)} == {digest_of(edited(byte)) for byte in (5, 4, 3, 7, 0)}


def test_bases_are_bounded(shelf: Shelf) -> None:
    """However many versions are deployed somewhere, a target offers a handful of patches."""
    version = shelf.add(CONTENT)
    many = [replace(version, number=number) for number in range(1, 40)]
    bases = choose_bases(many[-1], many, in_use=range(1, 40))
    assert [base.number for base in bases] == list(range(38, 38 - MAX_BASES, -1))
