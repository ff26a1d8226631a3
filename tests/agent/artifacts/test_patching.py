"""Tests of `edgeward_agent.artifacts.patching`, through `store`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.state import ProbationRules
from edgeward.protocol.targets import PatchOffer
from edgeward_agent.artifacts import FetchInterrupted, SlotStore
from edgeward_agent.artifacts.patching import choose_patch
from tests.agent.artifacts.patches import make_padded_flavor, offer_patch
from tests.agent.models_on_disk import ArtifactSource, accept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.protocol.model import Flavor
    from edgeward_agent.artifacts import ActiveModel

BASE = Digest("aa" * 32)
OTHER_BASE = Digest("bb" * 32)


@pytest.fixture
def source() -> ArtifactSource:
    """Larger pieces, since the models are larger."""
    return ArtifactSource(piece_bytes=4096)


@pytest.fixture
def flavors(source: ArtifactSource, tmp_path: Path) -> dict[int, Flavor]:
    """Versions 1 to 3."""
    return {version: make_padded_flavor(source, tmp_path, factor=float(version)) for version in range(1, 4)}


async def install(
    store: SlotStore,
    source: ArtifactSource,
    flavors: dict[int, Flavor],
    version: int,
    *,
    patches: Sequence[PatchOffer] = (),
    probation: ProbationRules | None = None,
) -> ActiveModel:
    """Install a version; what is asked for on the way is in `source.asked`."""
    source.asked.clear()
    active = await store.install(
        "scale",
        version,
        flavors[version],
        fetch=source.fetch,
        check=accept,
        patches=patches,
        probation=probation,
    )
    assert digest_of(active.path.read_bytes()) == flavors[version].digest
    return active


def files_in_slot(active: ActiveModel) -> set[str]:
    """What the slot holds."""
    return {path.name for path in active.path.parent.iterdir()}


def offer(base: Digest, total_bytes: int, name: str = "cc") -> PatchOffer:
    """One that nobody makes."""
    return PatchOffer(base_digest=base, digest=Digest(name * 32), total_bytes=total_bytes)


class TestChoice:
    """Which of the offers."""

    def choose(self, *offers: PatchOffer, missing_bytes: int = 1000) -> PatchOffer | None:
        """The offer that is chosen by a device that has `BASE`."""
        patch = choose_patch(
            offers, {BASE: Path("base")}, missing_bytes=missing_bytes, missing_of=lambda offer: offer.total_bytes
        )
        return patch.offer if patch else None

    def test_smallest_whose_base_is_here(self) -> None:
        """A smaller one for a model that is not here is of no use."""
        assert self.choose(offer(BASE, 300), offer(BASE, 200), offer(OTHER_BASE, 100)) == offer(BASE, 200)

    @pytest.mark.parametrize("missing_bytes", [0, 199, 200])
    def test_none_that_saves_nothing(self, missing_bytes: int) -> None:
        """What is missing of the whole file may be less by now."""
        assert self.choose(offer(BASE, 200), missing_bytes=missing_bytes) is None

    def test_none_without_a_base(self) -> None:
        """A first installation takes the whole file."""
        assert self.choose(offer(OTHER_BASE, 1)) is None


async def test_update_by_patch_fetches_the_patch_alone(
    store: SlotStore,
    source: ArtifactSource,
    flavors: dict[int, Flavor],
    tmp_path: Path,
    steps: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The model is the one that was signed, the slot holds nothing else, and the log says what it saved."""
    await install(store, source, flavors, 1)
    patch = offer_patch(source, tmp_path, flavors[1], flavors[2])
    assert patch.total_bytes < flavors[2].total_bytes / 4
    steps.clear()
    with caplog.at_level(logging.INFO):
        active = await install(store, source, flavors, 2, patches=[patch])
    assert {digest for digest, _ in source.asked} == {patch.digest, flavors[2].golden_digest}
    assert files_in_slot(active) == {"model.onnx", "golden.npz", "manifest.json"}
    assert steps[:6] == ["slot-cleared", "intent-written", "patch-fetched", "patched", "verified", "golden-fetched"]
    saved = flavors[2].total_bytes - patch.total_bytes
    assert f"made from {patch.total_bytes} bytes of patch in place of {flavors[2].total_bytes} ({saved} saved)" in (
        caplog.text
    )


async def test_patch_from_what_is_in_the_slot_to_fill(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path, steps: list[str]
) -> None:
    """The former version is kept as a base until the patch is applied, and then it goes."""
    await install(store, source, flavors, 1)
    await install(store, source, flavors, 2)
    patch = offer_patch(source, tmp_path, flavors[1], flavors[3])
    steps.clear()
    active = await install(store, source, flavors, 3, patches=[patch])
    assert active.slot == "a"
    assert "base-kept" in steps
    assert flavors[3].digest not in {digest for digest, _ in source.asked}
    assert files_in_slot(active) == {"model.onnx", "golden.npz", "manifest.json"}


async def test_patch_from_a_version_that_is_no_longer_wanted(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path
) -> None:
    """Version 2 was on probation, version 1 serves again, and version 3 is made from version 2 all the same."""
    await install(store, source, flavors, 1)
    await install(store, source, flavors, 2, probation=ProbationRules())
    patch = offer_patch(source, tmp_path, flavors[2], flavors[3])
    active = await install(store, source, flavors, 3, patches=[patch])
    assert active.slot == "b"
    assert flavors[3].digest not in {digest for digest, _ in source.asked}


@pytest.mark.parametrize("former", [False, True], ids=["from-active", "from-the-slot-to-fill"])
async def test_patch_goes_on_where_it_stopped(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path, *, former: bool
) -> None:
    """What had arrived of it is not fetched again, and its base is still there."""
    await install(store, source, flavors, 1)
    if former:
        await install(store, source, flavors, 2)
    patch = offer_patch(source, tmp_path, flavors[1], flavors[3])
    source.piece_bytes = source.stop_after = 16
    with pytest.raises(FetchInterrupted):
        await install(store, source, flavors, 3, patches=[patch])
    await install(store, source, flavors, 3, patches=[patch])
    assert source.asked[0] == (patch.digest, 16)
    assert flavors[3].digest not in {digest for digest, _ in source.asked}


class TestFallback:
    """Whatever is wrong with a patch, the whole file comes without a person."""

    async def expect_whole(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], patch: PatchOffer
    ) -> None:
        """Version 2 serves, from the whole file, and nothing of the patch is left."""
        active = await install(store, source, flavors, 2, patches=[patch])
        assert (flavors[2].digest, 0) in source.asked
        assert files_in_slot(active) == {"model.onnx", "golden.npz", "manifest.json"}

    async def test_damaged_on_the_way(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path, steps: list[str]
    ) -> None:
        """Its bytes are not those that were signed."""
        await install(store, source, flavors, 1)
        patch = offer_patch(source, tmp_path, flavors[1], flavors[2])
        source.damage(patch.digest, bytes(patch.total_bytes))
        await self.expect_whole(store, source, flavors, patch)
        assert "patch-refused" in steps
        assert "patch-fetched" not in steps

    async def test_longer_than_signed(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path
    ) -> None:
        """A sender that goes on after its end is cut off."""
        await install(store, source, flavors, 1)
        patch = offer_patch(source, tmp_path, flavors[1], flavors[2])
        source.damage(patch.digest, source.content(patch.digest) + b"more")
        await self.expect_whole(store, source, flavors, patch)

    async def test_no_patch_at_all(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], steps: list[str]
    ) -> None:
        """What was signed is not what the decoder takes."""
        await install(store, source, flavors, 1)
        junk = b"no patch at all"
        patch = PatchOffer(base_digest=flavors[1].digest, digest=source.add(junk), total_bytes=len(junk))
        await self.expect_whole(store, source, flavors, patch)
        assert "patch-fetched" in steps
        assert "patched" not in steps

    async def test_makes_something_else(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path
    ) -> None:
        """A sound patch to another version is not believed to make this one."""
        await install(store, source, flavors, 1)
        patch = offer_patch(source, tmp_path, flavors[1], flavors[3])
        await self.expect_whole(store, source, flavors, patch)

    async def test_damaged_base(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], tmp_path: Path
    ) -> None:
        """A base that is not what it should be costs not even the patch's download."""
        active = await install(store, source, flavors, 1)
        patch = offer_patch(source, tmp_path, flavors[1], flavors[2])
        active.path.write_bytes(active.path.read_bytes()[:-1])
        await self.expect_whole(store, source, flavors, patch)
        assert patch.digest not in {digest for digest, _ in source.asked}

    async def test_is_remembered_until_the_model_is_there(
        self, store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
    ) -> None:
        """An interruption of the whole file does not bring the patch back that had failed."""
        await install(store, source, flavors, 1)
        broken = PatchOffer(base_digest=flavors[1].digest, digest=source.add(b"x" * 100), total_bytes=100)
        source.stop_after = 8192
        with pytest.raises(FetchInterrupted):
            await install(store, source, flavors, 2, patches=[broken])
        await install(store, source, flavors, 2, patches=[broken])
        assert source.asked[0] == (flavors[2].digest, 8192)
