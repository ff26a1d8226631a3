"""Tests of probation in `edgeward_agent.artifacts`: `store`, `model_folder`, `recovery`."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgeward.durable import write_atomic
from edgeward.protocol.state import ProbationRules
from edgeward_agent.artifacts import (
    DiskFull,
    InstallError,
    SlotStore,
    pointer_stamp,
    read_active,
    resolve_active,
)
from edgeward_agent.artifacts.active import read_pointer
from tests.agent.models_on_disk import accept

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from edgeward_agent.artifacts import ActiveModel
    from tests.agent.models_on_disk import ArtifactSource

RULES = ProbationRules(min_predictions=10)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(models: Path, steps: list[str]) -> SlotStore:
    """A store with a clock that stands."""
    return SlotStore(models, checkpoint=steps.append, clock=lambda: NOW)


@pytest.fixture
def flavors(source: ArtifactSource, tmp_path: Path) -> dict[int, Flavor]:
    """Versions 1 to 4."""
    return {version: source.make_flavor(tmp_path, factor=float(version)) for version in range(1, 5)}


async def install(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], version: int, *, release: int = 0
) -> ActiveModel:
    """Install a version, on probation."""
    return await store.install(
        "scale", version, flavors[version], fetch=source.fetch, check=accept, release=release, probation=RULES
    )


@pytest.fixture
async def trying_2(store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]) -> Path:
    """The folder of a model whose version 2 is on probation, after version 1."""
    await install(store, source, flavors, 1, release=6)
    store.commit("scale")
    await install(store, source, flavors, 2, release=7)
    return store._folder / "scale"


def serves(models: Path) -> int:
    """The version that any process finds to serve; 0: none."""
    active = resolve_active(models / "scale").active
    return active.version if active else 0


class TestProbation:
    """From the activation to the proof."""

    async def test_begins_with_the_activation(self, trying_2: Path, flavors: dict[int, Flavor]) -> None:
        """In the same replacement of the pointer, with what was decided about it."""
        active = read_active(trying_2)
        assert active is not None
        assert active.probation is not None
        assert (active.probation.version, active.probation.digest) == (2, flavors[2].digest)
        assert (active.probation.since, active.probation.release, active.probation.starts) == (NOW, 7, 0)
        assert active.probation.rules == RULES

    async def test_first_version_is_on_probation_too(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """There is nothing behind it, and it may fail all the same."""
        assert (await install(store, source, flavors, 1)).probation is not None

    async def test_none_without_rules(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Whoever asks for none gets none."""
        active = await store.install("scale", 1, flavors[1], fetch=source.fetch, check=accept)
        assert active.probation is None

    async def test_commit_ends_it(self, store: SlotStore, trying_2: Path) -> None:
        """The pointer is another file, and what serves is not another model; a second time is nothing."""
        before, stamp = read_active(trying_2), pointer_stamp(trying_2)
        store.commit("scale")
        after = read_active(trying_2)
        assert before is not None
        assert after is not None
        assert (after.probation, after.generation, after.path) == (None, before.generation, before.path)
        assert pointer_stamp(trying_2) != stamp
        stamp = pointer_stamp(trying_2)
        store.commit("scale")
        assert pointer_stamp(trying_2) == stamp

    async def test_commit_of_nothing_is_nothing(self, store: SlotStore, models: Path) -> None:
        """A model that is not here has proven nothing."""
        store.commit("scale")
        assert not (models / "scale").exists()

    async def test_installing_it_again_changes_nothing(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], trying_2: Path
    ) -> None:
        """The desired state is said again and again; the probation goes on."""
        stamp = pointer_stamp(trying_2)
        await install(store, source, flavors, 2, release=8)
        assert pointer_stamp(trying_2) == stamp


class TestFormer:
    """What can serve again."""

    async def test_is_what_served_before(self, store: SlotStore, trying_2: Path, flavors: dict[int, Flavor]) -> None:
        """As it was installed."""
        del trying_2
        former = store.former("scale")
        assert former is not None
        assert (former.version, former.flavor) == (1, flavors[1])

    async def test_is_none_where_it_is_damaged(self, store: SlotStore, trying_2: Path) -> None:
        """Its digest is computed, not believed."""
        (trying_2 / "slots" / "a" / "model.onnx").write_bytes(b"damaged")
        assert store.former("scale") is None

    async def test_is_none_where_nothing_served(self, store: SlotStore) -> None:
        """Before the first installation."""
        assert store.former("scale") is None


class TestRollBack:
    """Back to what has proven itself."""

    @pytest.mark.usefixtures("trying_2")
    async def test_former_version_serves_again(self, store: SlotStore, models: Path) -> None:
        """At once, without a download, and for every process."""
        active = store.roll_back("scale", "too many errors")
        assert active is not None
        assert (active.version, active.probation) == (1, None)
        assert active.generation > 2
        assert serves(models) == 1

    @pytest.mark.usefixtures("trying_2")
    async def test_is_remembered(self, store: SlotStore, flavors: dict[int, Flavor], models: Path) -> None:
        """Across restarts: what, under which release, why and when."""
        store.roll_back("scale", "too many errors")
        store.close()
        with closing(SlotStore(models)) as again:
            (refusal,) = again.refusals("scale")
        assert (refusal.version, refusal.digest, refusal.release) == (2, flavors[2].digest, 7)
        assert (refusal.reason, refusal.at) == ("too many errors", NOW)

    async def test_what_failed_counts_no_more(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """Not even where the pointer is lost, or the version that serves again is damaged."""
        store.roll_back("scale", "too many errors")
        pointer = (trying_2 / "active.json").read_bytes()
        (trying_2 / "active.json").unlink()
        assert serves(models) == 1
        (trying_2 / "active.json").write_bytes(pointer)
        (trying_2 / "slots" / "a" / "model.onnx").unlink()
        assert serves(models) == 0

    @pytest.mark.usefixtures("trying_2")
    async def test_under_the_same_release_it_stays_out(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Nothing but a newer decision of the operator brings it back; then its bytes are still here."""
        store.roll_back("scale", "too many errors")
        with pytest.raises(InstallError, match=r"scale version 2 \(onnx-fp32\) was refused here: too many errors"):
            await install(store, source, flavors, 2, release=7)
        source.asked.clear()
        active = await install(store, source, flavors, 2, release=8)
        assert (active.version, active.slot) == (2, "b")
        assert source.asked == []

    @pytest.mark.usefixtures("trying_2")
    async def test_twice_is_once(self, store: SlotStore) -> None:
        """What serves after it is not on probation, so there is nothing to send back."""
        store.roll_back("scale", "too many errors")
        active = store.roll_back("scale", "too many errors")
        assert active is not None
        assert active.version == 1

    async def test_first_version_leaves_nothing(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], models: Path
    ) -> None:
        """Nothing serves, which is better than what fails; another version can come."""
        await install(store, source, flavors, 1)
        assert store.roll_back("scale", "crashes") is None
        assert serves(models) == 0
        assert read_pointer(models / "scale") is None
        assert (await install(store, source, flavors, 2)).version == 2

    async def test_damaged_former_version_leaves_nothing(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """A file is not trusted because it served once."""
        path = trying_2 / "slots" / "a" / "model.onnx"
        path.write_bytes(path.read_bytes()[:-1])
        assert store.roll_back("scale", "crashes") is None
        assert serves(models) == 0

    async def test_former_version_goes_when_its_slot_is_filled(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], trying_2: Path
    ) -> None:
        """Half of version 3 is no version 1, and the pointer says so before the first file goes."""
        store.commit("scale")
        source.stop_after = 64
        with pytest.raises(Exception, match="link broke"):
            await install(store, source, flavors, 3)
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert (pointer.slot, pointer.former) == ("b", None)

    @pytest.mark.parametrize("writes", [0, 1, 2])
    async def test_full_disk_does_not_keep_what_fails(
        self, store: SlotStore, trying_2: Path, models: Path, writes: int
    ) -> None:
        """Documented fake of the disk: it takes so many small files and then none, until a slot gives its room."""
        target = "edgeward_agent.artifacts.model_folder.write_atomic"

        def write_with_little_room(path: Path, data: bytes) -> None:
            nonlocal writes
            if not writes and (trying_2 / "slots" / "b" / "model.onnx").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            writes -= bool(writes)
            write_atomic(path, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, write_with_little_room)
            store.roll_back("scale", "too many errors")
        assert serves(models) == 1
        assert [refusal.version for refusal in store.refusals("scale")] == [2]

    @pytest.mark.usefixtures("trying_2")
    async def test_commit_on_a_full_disk_is_said(self, store: SlotStore) -> None:
        """The probation goes on, and the caller tries again."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("edgeward_agent.artifacts.model_folder.write_atomic", _raise_full)
            with pytest.raises(DiskFull, match="the disk is full: scale stays as it is"):
                store.commit("scale")
        active = store.active("scale")
        assert active is not None
        assert active.probation is not None


def _raise_full(_path: Path, _data: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestOvertaken:
    """Another version is wanted while one is on probation."""

    @pytest.mark.usefixtures("trying_2")
    async def test_proven_version_is_kept(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], steps: list[str]
    ) -> None:
        """Version 1 serves again before version 3 takes the slot of version 2, which proved nothing."""
        steps.clear()
        source.stop_after = 64
        with pytest.raises(Exception, match="link broke"):
            await install(store, source, flavors, 3)
        active = store.active("scale")
        assert active is not None
        assert (active.version, active.probation) == (1, None)
        assert steps[0] == "stepped-back"
        assert store.refusals("scale") == ()
        active = await install(store, source, flavors, 3)
        assert (active.version, active.slot) == (3, "b")
        rolled_back = store.roll_back("scale", "slow")
        assert rolled_back is not None
        assert rolled_back.version == 1

    @pytest.mark.usefixtures("trying_2")
    async def test_back_to_the_former_version(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """It has proven itself, so it needs neither a download nor a probation."""
        source.asked.clear()
        active = await install(store, source, flavors, 1, release=8)
        assert (active.version, active.probation, source.asked) == (1, None, [])

    async def test_damaged_former_version_is_no_way_back(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], trying_2: Path
    ) -> None:
        """What is on probation goes on serving while the next one comes."""
        (trying_2 / "slots" / "a" / "model.onnx").unlink()
        source.stop_after = 64
        with pytest.raises(Exception, match="link broke"):
            await install(store, source, flavors, 3)
        active = store.active("scale")
        assert active is not None
        assert active.version == 2


class TestStarts:
    """A crash loop after an activation ends at boot."""

    def start(self, models: Path, *, orderly: bool) -> list[str]:
        """One life of the agent's process; what its boot had to say."""
        store = SlotStore(models)
        words = store.recover()
        if not orderly:
            store._counted = {}
        store.close()
        return words

    @pytest.mark.usefixtures("trying_2")
    async def test_third_start_without_an_orderly_end_rolls_back(self, store: SlotStore, models: Path) -> None:
        """Two crashes or power cuts are borne, and the reason is remembered."""
        store.close()
        assert self.start(models, orderly=False) == []
        assert self.start(models, orderly=False) == []
        assert serves(models) == 2
        (words,) = self.start(models, orderly=False)
        reason = "started 3 times on probation without getting through it"
        assert words == (
            f"version 2 of scale was rolled back: {reason}; scale serves version 1 (onnx-fp32) from slot a"
        )
        assert serves(models) == 1
        with closing(SlotStore(models)) as again:
            assert again.recover() == []
            assert [(refusal.version, refusal.reason) for refusal in again.refusals("scale")] == [(2, reason)]

    async def test_orderly_ends_count_nothing(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """A device that is switched off each evening does not lose its new version."""
        store.close()
        for _ in range(5):
            assert self.start(models, orderly=True) == []
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert pointer.probation is not None
        assert pointer.probation.starts == 0

    @pytest.mark.usefixtures("trying_2")
    async def test_committed_version_may_crash(self, store: SlotStore, models: Path) -> None:
        """What has proven itself is never sent back by a boot."""
        store.commit("scale")
        store.close()
        for _ in range(5):
            self.start(models, orderly=False)
        assert serves(models) == 2

    async def test_start_is_on_disk_before_anything_loads(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """The process may die at its next instruction."""
        store.close()
        counting = SlotStore(models)
        counting.recover()
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert pointer.probation is not None
        assert pointer.probation.starts == 1
        counting.close()

    async def test_end_takes_back_only_its_own_start(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], trying_2: Path, models: Path
    ) -> None:
        """A version that was activated since the boot has no start to be taken back."""
        store.close()
        with closing(SlotStore(models)) as running:
            running.recover()
            running.commit("scale")
            await install(running, source, flavors, 3)
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert pointer.probation is not None
        assert (pointer.probation.version, pointer.probation.starts) == (3, 0)

    async def test_start_that_was_settled_counts_no_more(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """Power cuts days apart send no good version back; what is settled is so on the disk, and once."""
        store.close()
        for _ in range(5):
            living = SlotStore(models)
            assert living.recover() == []
            living.settle_start("scale")
            living.settle_start("scale")
            living._counted = {}
            living.close()
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert pointer.probation is not None
        assert (pointer.probation.version, pointer.probation.starts) == (2, 0)

    async def test_settling_does_not_hide_crashes_before(self, store: SlotStore, trying_2: Path, models: Path) -> None:
        """It takes back the start of this boot alone, and an orderly end after it takes nothing more."""
        store.close()
        self.start(models, orderly=False)
        with closing(SlotStore(models)) as living:
            living.recover()
            living.settle_start("scale")
        pointer = read_pointer(trying_2)
        assert pointer is not None
        assert pointer.probation is not None
        assert pointer.probation.starts == 1

    async def test_first_version_leaves_nothing(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], models: Path
    ) -> None:
        """A first version that ends the agent at each start stops doing so."""
        await install(store, source, flavors, 1)
        store.close()
        for _ in range(2):
            self.start(models, orderly=False)
        (words,) = self.start(models, orderly=False)
        assert words.endswith("nothing of scale serves")
        assert self.start(models, orderly=False) == []


class TestRefusals:
    """What must not serve."""

    def test_is_remembered_of_a_model_that_never_served(
        self, store: SlotStore, flavors: dict[int, Flavor], models: Path
    ) -> None:
        """A golden set that failed at the first installation."""
        store.refuse("scale", 1, flavors[1].digest, 5, "wrong numbers")
        store.close()
        with closing(SlotStore(models)) as again:
            assert again.recover() == []
            (refusal,) = again.refusals("scale")
        assert (refusal.version, refusal.release, refusal.reason) == (1, 5, "wrong numbers")

    async def test_of_what_serves_changes_nothing(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Refusing is a memory; rolling back is an act."""
        await store.install("scale", 1, flavors[1], fetch=source.fetch, check=accept)
        store.refuse("scale", 1, flavors[1].digest, 0, "slow")
        assert store.recover() == []
        active = await install(store, source, flavors, 1)
        assert active.version == 1

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"refusals": [1]}', b"\xff"])
    def test_damaged_file_is_none(
        self, store: SlotStore, flavors: dict[int, Flavor], models: Path, content: bytes
    ) -> None:
        """The device learns again what it has forgotten."""
        store.refuse("scale", 1, flavors[1].digest, 5, "wrong numbers")
        (models / "scale" / "refusals.json").write_bytes(content)
        assert store.refusals("scale") == ()
        store.refuse("scale", 2, flavors[2].digest, 5, "slow")
        assert [refusal.version for refusal in store.refusals("scale")] == [2]

    def test_goes_with_the_model(self, store: SlotStore, flavors: dict[int, Flavor]) -> None:
        """A model that is removed leaves nothing."""
        store.refuse("scale", 1, flavors[1].digest, 5, "wrong numbers")
        store.remove("scale")
        assert store.refusals("scale") == ()
