"""Tests of `edgeward_agent.artifacts.room`, through `store`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.state import CandidateMode
from edgeward_agent.artifacts import DiskFull, FetchInterrupted, QuotaExceeded, SlotStore
from edgeward_agent.artifacts.slot_files import bytes_in
from tests.agent.artifacts.patches import make_padded_flavor, offer_patch
from tests.agent.models_on_disk import ArtifactSource, accept, without_golden

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.targets import PatchOffer

# More than the manifest, the intent and two pointers of one installation, less than a model.
SLACK_BYTES = 4000


@pytest.fixture
def source() -> ArtifactSource:
    """Larger pieces, since the models are larger."""
    return ArtifactSource(piece_bytes=4096)


@pytest.fixture
def flavors(source: ArtifactSource, tmp_path: Path) -> dict[int, Flavor]:
    """Versions 1 to 4, all of the same length."""
    made = [without_golden(make_padded_flavor(source, tmp_path, factor=float(version))) for version in range(1, 5)]
    return dict(enumerate(made, start=1))


def limited(models: Path, model_count: float, flavor: Flavor) -> SlotStore:
    """A store with room for so many models, and for the small files of each."""
    return SlotStore(models, max_bytes=int(model_count * (flavor.total_bytes + SLACK_BYTES)))


async def install(
    store: SlotStore,
    source: ArtifactSource,
    flavor: Flavor,
    version: int,
    *,
    model: str = "scale",
    patches: Sequence[PatchOffer] = (),
) -> None:
    """Install a version of a model."""
    await store.install(model, version, flavor, fetch=source.fetch, check=accept, patches=patches)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestQuota:
    """The limit that the owner sets on all models together."""

    async def test_update_after_update_stays_within_it(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Two slots are two models; the third version takes the room of the first."""
        store = limited(models, 2, flavors[1])
        for version in (1, 2, 3, 4, 3, 1):
            await install(store, source, flavors[version], version)
            assert bytes_in(models) <= 2 * (flavors[1].total_bytes + SLACK_BYTES)
        store.close()

    async def test_what_does_not_fit_is_refused_before_anything_is_given_up(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """The sentence says how much is missing; what serves and what served before are as they were."""
        store = limited(models, 2, flavors[1])
        for version in (1, 2):
            await install(store, source, flavors[version], version)
        before = contents(models)
        source.asked.clear()
        with pytest.raises(QuotaExceeded) as refused:
            await install(store, source, flavors[3], 3, model="other")
        numbers = re.search(r"needs (\d+) bytes of the (\d+) .* (\d+) are left: (\d+) are missing", str(refused.value))
        assert numbers is not None
        needed, limit, left, missing = (int(number) for number in numbers.groups())
        assert limit - bytes_in(models) == left
        assert needed - left == missing > 0
        assert isinstance(refused.value, DiskFull)
        assert source.asked == []
        assert contents(models) == before
        store.close()

    async def test_going_back_needs_no_room(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """The owner may lower the limit below what is here; the former version serves again all the same."""
        unlimited = SlotStore(models)
        for version in (1, 2):
            await install(unlimited, source, flavors[version], version)
        unlimited.close()
        store = SlotStore(models, max_bytes=1)
        await install(store, source, flavors[1], 1)
        active = store.active("scale")
        assert active is not None
        assert active.version == 1
        store.close()

    async def test_patch_without_room_is_done_without(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path
    ) -> None:
        """A patch and what it makes lie side by side for a moment; where they can't, the whole file comes."""
        unlimited = SlotStore(models)
        for version in (1, 2):
            await install(unlimited, source, flavors[version], version)
        unlimited.close()
        patch = offer_patch(source, tmp_path, flavors[1], flavors[3])
        # The base of this patch lies in the slot to fill, so that it takes a third model's room.
        store = limited(models, 2.5, flavors[1])
        source.asked.clear()
        await install(store, source, flavors[3], 3, patches=[patch])
        assert {digest for digest, _ in source.asked} == {flavors[3].digest}
        store.close()
        roomy = limited(models, 3.5, flavors[1])
        patch = offer_patch(source, tmp_path, flavors[3], flavors[4])
        source.asked.clear()
        await install(roomy, source, flavors[4], 4, patches=[patch])
        assert {digest for digest, _ in source.asked} == {patch.digest}
        roomy.close()


class TestGarbage:
    """What nobody needs goes before anything is refused."""

    async def test_half_a_download_makes_room(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """It was never wanted since; another model comes in its place."""
        store = limited(models, 1.5, flavors[1])
        source.stop_after = 30_000
        with pytest.raises(FetchInterrupted):
            await install(store, source, flavors[1], 1, model="other")
        await install(store, source, flavors[2], 2)
        assert store.active("scale") is not None
        assert not list((models / "other" / "slots" / "a").iterdir())
        store.close()

    async def test_an_installation_does_not_throw_itself_out(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """The owner has lowered the limit in the middle: what has arrived waits until there is room for the rest."""
        store = SlotStore(models)
        source.stop_after = 30_000
        with pytest.raises(FetchInterrupted):
            await install(store, source, flavors[1], 1)
        store.close()
        store = limited(models, 0.8, flavors[1])
        with pytest.raises(QuotaExceeded):
            await install(store, source, flavors[1], 1)
        store.close()
        store = limited(models, 1, flavors[1])
        source.asked.clear()
        await install(store, source, flavors[1], 1)
        assert source.asked[0][1] > 0
        store.close()

    async def test_half_a_download_that_is_wanted_stays(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Two models that do not fit together do not throw each other out for ever."""
        store = limited(models, 1.5, flavors[1])
        store.collect({("other", 1), ("scale", 2)})
        source.stop_after = 30_000
        with pytest.raises(FetchInterrupted):
            await install(store, source, flavors[1], 1, model="other")
        with pytest.raises(QuotaExceeded):
            await install(store, source, flavors[2], 2)
        source.asked.clear()
        await install(store, source, flavors[1], 1, model="other")
        assert source.asked[0][1] > 0
        store.close()

    async def test_slots_in_use_are_never_garbage(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """What serves, what served before, a candidate: with nothing wanted at all."""
        store = SlotStore(models)
        for version in (1, 2):
            await install(store, source, flavors[version], version)
        await install(store, source, flavors[1], 1, model="other")
        await store.stage(
            "other", 2, flavors[2], fetch=source.fetch, check=accept, mode=CandidateMode.SHADOW, share=0.0
        )
        before = contents(models)
        assert store.collect(()) == 0
        assert contents(models) == before
        store.close()

    async def test_a_dropped_candidate_and_rubbish_are_garbage(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """And the bytes that they gave back are counted."""
        store = SlotStore(models)
        await install(store, source, flavors[1], 1)
        await store.stage(
            "scale", 2, flavors[2], fetch=source.fetch, check=accept, mode=CandidateMode.SHADOW, share=0.0
        )
        store.drop_candidate("scale")
        (models / ".removed-old").mkdir()
        (models / ".removed-old" / "model.onnx").write_bytes(b"x" * 100)
        (models / "scale" / ".active.json.abc").write_bytes(b"half")
        assert store.collect({("scale", 2)}) == 104
        assert list((models / "scale" / "slots" / "b").iterdir())
        assert store.collect({("scale", 1)}) >= flavors[2].total_bytes
        assert not list((models / "scale" / "slots" / "b").iterdir())
        store.close()

    async def test_model_without_a_pointer_is_left_to_the_next_boot(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """A whole slot is what the device will serve, whatever has happened to the pointer."""
        store = SlotStore(models)
        await install(store, source, flavors[1], 1)
        for content in (None, b"damaged"):
            pointer = models / "scale" / "active.json"
            pointer.unlink() if content is None else pointer.write_bytes(content)
            store.collect(())
            assert (models / "scale" / "slots" / "a" / "model.onnx").exists()
        store.close()

    async def test_full_disk_collects_first(
        self, models: Path, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """Before a model is refused for want of disk, half of another one that nobody wants has gone."""
        store = SlotStore(models)
        source.stop_after = 30_000
        with pytest.raises(FetchInterrupted):
            await install(store, source, flavors[1], 1, model="other")
        with pytest.raises(DiskFull, match="bytes of disk"):
            await install(store, source, replace(flavors[2], total_bytes=1 << 60), 2)
        assert not list((models / "other" / "slots" / "a").iterdir())
        store.close()
