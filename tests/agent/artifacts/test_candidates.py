"""Tests of candidates in `edgeward_agent.artifacts`: `store`, `model_folder`, `active`."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward.protocol.state import CandidateMode, ProbationRules
from edgeward_agent.artifacts import (
    FetchInterrupted,
    InstallError,
    SlotStore,
    pointer_stamp,
    probe_check,
    read_candidate,
    resolve_active,
    resolve_candidate,
)
from edgeward_agent.artifacts.active import read_pointer
from tests.agent.models_on_disk import accept

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from tests.agent.models_on_disk import ArtifactSource


@pytest.fixture
def flavors(source: ArtifactSource, tmp_path: Path) -> dict[int, Flavor]:
    """Versions 1 to 4."""
    return {version: source.make_flavor(tmp_path, factor=float(version)) for version in range(1, 5)}


@pytest.fixture
async def folder(store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], models: Path) -> Path:
    """The folder of a model whose version 2 serves from slot b, after version 1."""
    for version in (1, 2):
        await store.install("scale", version, flavors[version], fetch=source.fetch, check=accept)
    return models / "scale"


async def stage(
    store: SlotStore,
    source: ArtifactSource,
    flavors: dict[int, Flavor],
    version: int,
    *,
    mode: CandidateMode = CandidateMode.SHADOW,
    share: float = 0.0,
    release: int = 0,
) -> None:
    """Stage a version."""
    await store.stage(
        "scale", version, flavors[version], fetch=source.fetch, check=accept, mode=mode, share=share, release=release
    )


async def test_runs_beside_what_serves(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path, steps: list[str]
) -> None:
    """It has the slot of the former version, and what serves is the same, not even loaded again."""
    before = resolve_active(folder).active
    stamp = pointer_stamp(folder)
    steps.clear()
    await stage(store, source, flavors, 3, mode=CandidateMode.AB, share=0.25)
    candidate = read_candidate(folder)
    assert candidate is not None
    assert (candidate.active.version, candidate.active.slot) == (3, "a")
    assert (candidate.mode, candidate.share) == (CandidateMode.AB, 0.25)
    assert digest_of(candidate.active.path.read_bytes()) == flavors[3].digest
    assert resolve_active(folder).active == before
    assert pointer_stamp(folder) != stamp
    assert candidate == resolve_candidate(folder) == store.candidate("scale")
    assert (steps[0], steps[-1]) == ("given-up", "staged")
    pointer = read_pointer(folder)
    assert pointer is not None
    assert pointer.former is None


async def test_is_checked_like_what_serves(
    store: SlotStore, source: ArtifactSource, folder: Path, tmp_path: Path
) -> None:
    """A candidate that computes wrong numbers answers nobody."""
    wrong = source.make_flavor(tmp_path, factor=3.0, golden_factor=4.0)
    with pytest.raises(InstallError, match="computes wrong numbers"):
        await store.stage(
            "scale", 3, wrong, fetch=source.fetch, check=probe_check(), mode=CandidateMode.SHADOW, share=0.0
        )
    assert read_candidate(folder) is None
    assert list((folder / "slots" / "a").iterdir()) == []


async def test_nobody_sees_it_before_it_is_whole(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """Half of a candidate takes no part."""
    source.stop_after = 64
    with pytest.raises(FetchInterrupted):
        await stage(store, source, flavors, 3)
    assert read_candidate(folder) is None
    await stage(store, source, flavors, 3)
    assert read_candidate(folder) is not None


async def test_only_its_share_changes(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """From shadow to ab nothing is fetched and nothing has to be loaded again."""
    await stage(store, source, flavors, 3)
    before = read_candidate(folder)
    source.asked.clear()
    await stage(store, source, flavors, 3, mode=CandidateMode.AB, share=0.5)
    after = read_candidate(folder)
    assert before is not None
    assert after is not None
    assert (after.active, after.mode, after.share) == (before.active, CandidateMode.AB, 0.5)
    assert source.asked == []
    stamp = pointer_stamp(folder)
    await stage(store, source, flavors, 3, mode=CandidateMode.AB, share=0.5)
    assert pointer_stamp(folder) == stamp


async def test_another_candidate_has_another_generation(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """Whoever has loaded the one in this slot knows that it is another now."""
    await stage(store, source, flavors, 3)
    before = read_candidate(folder)
    await stage(store, source, flavors, 4)
    after = read_candidate(folder)
    assert before is not None
    assert after is not None
    assert after.active.version == 4
    assert after.active.generation > before.active.generation


async def test_former_version_becomes_one_without_a_download(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """It is there; it is verified and checked, and takes part."""
    source.asked.clear()
    await stage(store, source, flavors, 1)
    candidate = read_candidate(folder)
    assert candidate is not None
    assert candidate.active.version == 1
    assert source.asked == []


async def test_activation_needs_no_download(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """It is verified and checked once more, serves, and version 2 is what there is to go back to."""
    await stage(store, source, flavors, 3)
    source.asked.clear()
    active = await store.install(
        "scale", 3, flavors[3], fetch=source.fetch, check=accept, probation=ProbationRules(), release=9
    )
    assert (active.version, active.slot, source.asked) == (3, "a", [])
    assert read_candidate(folder) is None
    rolled_back = store.roll_back("scale", "slow")
    assert rolled_back is not None
    assert rolled_back.version == 2


async def test_another_version_ends_it(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """Its slot is needed; it takes part no more before its files go."""
    await stage(store, source, flavors, 3)
    source.stop_after = 64
    with pytest.raises(FetchInterrupted):
        await store.install("scale", 4, flavors[4], fetch=source.fetch, check=accept)
    assert read_candidate(folder) is None


async def test_drop_ends_it(store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path) -> None:
    """What serves goes on; a second time is nothing; it comes back without a download."""
    await stage(store, source, flavors, 3)
    before = resolve_active(folder).active
    store.drop_candidate("scale")
    stamp = pointer_stamp(folder)
    store.drop_candidate("scale")
    store.drop_candidate("other")
    assert pointer_stamp(folder) == stamp
    assert read_candidate(folder) is None
    assert resolve_active(folder).active == before
    source.asked.clear()
    await stage(store, source, flavors, 3)
    assert source.asked == []


async def test_waits_for_something_to_run_beside(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor]
) -> None:
    """Nothing serves yet."""
    with pytest.raises(FetchInterrupted, match="nothing yet that it could run beside"):
        await stage(store, source, flavors, 1)


async def test_waits_for_the_end_of_a_probation(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """The slot that it would take is the way back."""
    await store.install("scale", 3, flavors[3], fetch=source.fetch, check=accept, probation=ProbationRules())
    with pytest.raises(FetchInterrupted, match="version 3, beside which it should run, is on probation"):
        await stage(store, source, flavors, 4)
    store.commit("scale")
    await stage(store, source, flavors, 4)
    assert read_candidate(folder) is not None


async def test_what_serves_is_no_candidate(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """A version beside itself compares nothing."""
    with pytest.raises(InstallError, match=r"version 2 .* serves, so it is no candidate"):
        await stage(store, source, flavors, 2)


async def test_what_was_refused_is_no_candidate(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """Before a newer release."""
    store.refuse("scale", 3, flavors[3].digest, 4, "slow")
    with pytest.raises(InstallError, match="was refused here: slow"):
        await stage(store, source, flavors, 3, release=4)
    await stage(store, source, flavors, 3, release=5)


async def test_damaged_one_takes_no_part(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path, models: Path
) -> None:
    """Nobody who loads it gets it, and the next boot says so."""
    await stage(store, source, flavors, 3)
    path = folder / "slots" / "a" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert resolve_candidate(folder) is None
    store.close()
    with closing(SlotStore(models)) as again:
        assert again.recover() == ["the candidate of scale is damaged and takes part no more"]
        assert again.candidate("scale") is None
        assert again.recover() == []


async def test_installations_and_candidates_follow_one_another(
    store: SlotStore, source: ArtifactSource, flavors: dict[int, Flavor], folder: Path
) -> None:
    """Both need the slot that does not serve."""
    await asyncio.gather(
        store.install("scale", 3, flavors[3], fetch=source.fetch, check=accept), stage(store, source, flavors, 4)
    )
    active, candidate = resolve_active(folder).active, resolve_candidate(folder)
    assert active is not None
    assert candidate is not None
    assert (active.version, candidate.active.version) == (3, 4)
