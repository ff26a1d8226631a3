"""A coordinator in the wrong hands: it has every byte that was ever signed, and perhaps the keys that are online.

Each attack of the TUF specification (1.0.31, 1.5.2) that a device can notice. A
refusal is `Untrusted`, and the honest coordinator is believed again afterwards.
"""

from __future__ import annotations

import asyncio
import errno
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.protocol.digests import digest_of
from edgeward_agent.errors import Interrupted
from edgeward_agent.trust import Authority, Floors, TrustStore, Untrusted
from tests.agent.trust.device import FLAVOR, NOON, Device, flavor_of, target_of
from tests.agent.trust.repository import SimulatedRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def refused(device: Device, words: str) -> AsyncIterator[None]:
    """What is authorized before, is refused after the block and in these words."""
    await device.authorize()
    yield
    with pytest.raises(Untrusted, match=words):
        await device.authorize()


def everything(repository: SimulatedRepository) -> dict[str, bytes]:
    """All that is served, to be replayed."""
    return dict(repository.files)


# Tampering.


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
@pytest.mark.parametrize("kind", ["a digit", "garbage", "nothing", "deep", "cut off"])
async def test_damaged_metadata_is_refused(
    device: Device, repository: SimulatedRepository, name: str, kind: str
) -> None:
    """Each file, in each way, on a device that has nothing cached."""
    content = repository.files[name]
    version = re.search(rb'"version": ?(\d)(?!.*"version")', content, re.DOTALL)
    assert version is not None
    repository.replaced[name] = {
        "a digit": content[: version.start(1)] + b"9" + content[version.end(1) :],
        "garbage": b"\xff\x00" * 500,
        "nothing": b"",
        "deep": b"[" * 10_000,
        "cut off": content[:-10],
    }[kind]
    with pytest.raises(Untrusted):
        await device.authorize()
    repository.replaced.clear()
    await device.authorize()


async def test_a_damaged_next_root_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """And its predecessor stays in force."""
    repository.replaced["2.root.json"] = b"{}"
    with pytest.raises(Untrusted):
        await device.authorize()
    repository.replaced.clear()
    await device.authorize()


async def test_endless_metadata_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """Past its most bytes nothing is looked at."""
    repository.replaced["timestamp.json"] = repository.files["timestamp.json"] + b" " * (16 << 10)
    with pytest.raises(Untrusted, match=r"timestamp.json is longer than the 16384 bytes"):
        await device.authorize()


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("2.root.json", 512 << 10),
        ("timestamp.json", 16 << 10),
        ("2.snapshot.json", 2 << 20),
        ("2.targets.json", 5 << 20),
    ],
)
async def test_every_file_is_asked_for_with_a_bound(
    device: Device, repository: SimulatedRepository, name: str, most: int
) -> None:
    """No more than this is ever held in memory."""
    bounds: dict[str, int] = {}

    async def fetch(asked: str, max_bytes: int) -> bytes | None:
        bounds[asked] = max_bytes
        return repository.read(asked)

    await Authority(device.store, fetch_metadata=fetch, clock=lambda: NOON).authorize("digits", 1, FLAVOR)
    assert 0 < bounds[name] <= most


# Rolling back, freezing, mixing.


async def test_rolled_back_metadata_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """The whole of an earlier state, each signature good."""
    earlier = everything(repository)
    repository.publish()
    async with refused(device, "rolled back: targets is version 2, and this device has verified version 3|rolled back"):
        repository.files = earlier


@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a boot"])
async def test_rolled_back_metadata_is_refused_where_every_cached_file_is_lost(
    device: Device, repository: SimulatedRepository, *, restart: bool
) -> None:
    """A power cut has truncated what python-tuf compares with; the floors stand."""
    earlier = everything(repository)
    repository.publish()
    async with refused(device, r"rolled back: \w+ is version 2, and this device has verified version 3"):
        repository.files = earlier
        device.lose_cache()
        if restart:
            device.restart()


async def test_lost_cached_files_alone_are_no_harm(device: Device, repository: SimulatedRepository) -> None:
    """They are fetched again."""
    await device.authorize()
    device.lose_cache()
    device.restart()
    await device.authorize()


async def test_an_older_snapshot_under_a_new_timestamp_is_refused(
    device: Device, repository: SimulatedRepository
) -> None:
    """As whoever holds the timestamp's key alone could sign."""
    old = repository.snapshot.version
    repository.publish()
    async with refused(device, "rolled back: snapshot"):
        repository.snapshot.version = old
        repository.publish_timestamp()


async def test_older_targets_under_new_online_metadata_are_refused(
    device: Device, repository: SimulatedRepository
) -> None:
    """As a coordinator that holds both online keys could sign: a withdrawn version does not come back."""
    repository.publish()
    async with refused(device, "rolled back: targets is version 2, and this device has verified version 3"):
        repository.targets.version = 1
        repository.publish()
        device.lose_cache()


async def test_older_metadata_of_a_project_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """Its floor stands like the others."""
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    repository.publish()
    async with refused(device, "rolled back: vision is version 1, and this device has verified version 2"):
        repository.projects["vision"].version = 0
        repository.publish()
        device.lose_cache()


@pytest.mark.parametrize("name", ["snapshot", "targets"])
async def test_mixed_metadata_is_refused(device: Device, repository: SimulatedRepository, name: str) -> None:
    """One file of an earlier state among those of today's, each signature good."""
    old = repository.files[f"2.{name}.json"]
    repository.sign_target(target_of(version=2))
    repository.publish()
    repository.replaced[f"3.{name}.json"] = old
    with pytest.raises(Untrusted):
        await device.authorize(version=2)
    repository.replaced.clear()
    await device.authorize(version=2)


async def test_targets_that_the_snapshot_does_not_know_are_refused(
    device: Device, repository: SimulatedRepository
) -> None:
    """Properly signed, of the right version, and of another moment."""
    repository.sign_target(target_of(version=2))
    repository.publish()
    honest = repository.files["3.targets.json"]
    repository.targets.version = 2
    repository.targets.targets.clear()
    repository._publish("targets", repository.targets, timedelta(days=1))
    repository.replaced["3.targets.json"] = repository.files["3.targets.json"]
    repository.files["3.targets.json"] = honest
    with pytest.raises(Untrusted):
        await device.authorize(version=2)


async def test_a_replayed_timestamp_holds_until_it_expires(device: Device, repository: SimulatedRepository) -> None:
    """A coordinator that hides what is new can do so for a day."""
    frozen = repository.files["timestamp.json"]
    repository.withdraw("models/digits/1/onnx-fp32")
    repository.publish()
    repository.replaced["timestamp.json"] = frozen
    await device.authorize()
    device.now += timedelta(days=1, minutes=1)
    with pytest.raises(Untrusted, match=r"timestamp.json is expired by this device's clock"):
        await device.authorize()


# Time.


async def test_an_expired_timestamp_updates_nothing(device: Device, repository: SimulatedRepository) -> None:
    """It names the clock, which may be what is wrong."""
    async with refused(
        device, r"timestamp.json is expired by this device's clock \(2027-01-03 12:00 UTC\); if the clock"
    ):
        device.now += timedelta(days=2)
    repository.now = device.now
    repository.publish_timestamp()
    await device.authorize()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot"])
async def test_every_other_expired_role_updates_nothing(
    device: Device, repository: SimulatedRepository, role: str
) -> None:
    """However fresh the timestamp is."""
    await device.authorize()
    device.now += repository.lifetimes[role] + timedelta(minutes=1)
    repository.now = device.now
    repository.publish_timestamp()
    with pytest.raises(Untrusted, match="expired by this device's clock"):
        await device.authorize()


async def test_a_clock_that_was_turned_back_makes_nothing_fresh_again(
    device: Device, repository: SimulatedRepository
) -> None:
    """What had expired when the newest timestamp was signed has expired for ever."""
    repository.lifetimes["vision"] = timedelta(days=2)
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    repository.now = device.now = NOON + timedelta(days=3)
    repository.publish_timestamp()
    await device.authorize("digits")
    device.now = NOON
    device.restart()
    with pytest.raises(Untrusted, match=r"vision is expired by this device's clock \(2027-01-04 12:00"):
        await device.authorize("vision-gate")


async def test_a_clock_that_was_turned_back_stops_no_update(device: Device, repository: SimulatedRepository) -> None:
    """1970 after a flat battery: the newest signed instant is now."""
    await device.authorize()
    device.now = NOON.replace(year=1970)
    device.restart()
    repository.sign_target(target_of(version=2))
    repository.publish()
    await device.authorize(version=2)


async def test_a_timestamp_tells_a_clock_that_is_behind(device: Device, repository: SimulatedRepository) -> None:
    """In the same look: what had expired when the timestamp was signed is not taken."""
    repository.now = NOON + timedelta(days=100)
    repository.publish_timestamp()
    with pytest.raises(Untrusted, match=r"(snapshot|targets).json is expired by this device's clock \(2027-04-11"):
        await device.authorize()


async def test_a_clock_that_jumped_ahead_poisons_nothing(device: Device) -> None:
    """Once it is set right, updates go on."""
    async with refused(device, r"expired by this device's clock \(2127"):
        device.now = NOON.replace(year=2127)
    device.now = NOON
    await device.authorize()


@pytest.mark.parametrize("value", ["yesterday", "2027-01-01", 3, "2099-01-01T00:00:00+00:00"])
async def test_a_timestamp_that_was_signed_at_a_nonsensical_instant_is_refused(
    device: Device, repository: SimulatedRepository, value: object
) -> None:
    """Unreadable, without a zone, or after it expired."""
    repository.timestamp.unrecognized_fields = {"x-edgeward-signed-at": value}
    repository._publish("timestamp", repository.timestamp, timedelta(days=1))
    with pytest.raises(Untrusted, match="the timestamp"):
        await device.authorize()


# Wrong hands.


async def test_metadata_of_another_fleet_is_refused(device: Device) -> None:
    """Every signature good, by keys that this device does not know."""
    other = SimulatedRepository(now=NOON)
    other.sign_target(target_of())
    other.publish()
    device.repository = other
    with pytest.raises(Untrusted, match=r"not signed by whom this device trusts.*another fleet"):
        await device.authorize()


async def test_a_root_of_another_fleet_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """Offered as the next version of this one's."""
    other = SimulatedRepository(now=NOON)
    other.publish_root()
    repository.replaced["2.root.json"] = other.roots[-1]
    with pytest.raises(Untrusted, match="not signed by whom this device trusts"):
        await device.authorize()
    assert device.store.root() == repository.roots[0]


@pytest.mark.parametrize("missing", ["the former keys", "the new keys", "one of the former keys"])
async def test_a_root_without_its_threshold_is_refused(tmp_path: Path, missing: str) -> None:
    """It takes the threshold of the keys before and of its own."""
    repository = SimulatedRepository(now=NOON, root_keys=3, root_threshold=2)
    repository.sign_target(target_of())
    repository.publish()
    device = Device(tmp_path / "trust", repository)
    await device.authorize()
    former = repository.signers["root"]
    stranger = SimulatedRepository(root_keys=3).signers["root"]
    for old, new in zip(former, stranger, strict=True):
        repository.root.revoke_key(old.public_key.keyid, "root")
        repository.root.add_key(new.public_key, "root")
    signers = {
        "the former keys": stranger,
        "the new keys": former,
        "one of the former keys": [*stranger, former[0]],
    }[missing]
    repository.publish_root(signers=signers)
    with pytest.raises(Untrusted, match="not signed by whom this device trusts"):
        await device.authorize()
    assert device.store.root() == repository.roots[0]


async def test_a_team_signs_only_its_own_models(device: Device, repository: SimulatedRepository) -> None:
    """A project's key under another model's name is no signature."""
    repository.add_project("vision", prefix="vision-")
    stolen = target_of("digits", 2, flavor_of("malware"))
    repository.sign_target(stolen, role="vision")
    repository.publish()
    with pytest.raises(Untrusted, match="models/digits/2/onnx-fp32 is not in the signed metadata"):
        await device.authorize("digits", 2, stolen.flavor)


async def test_a_team_does_not_sign_for_another_team(device: Device, repository: SimulatedRepository) -> None:
    """Metadata of one project in the place of another's."""
    repository.add_project("vision", prefix="vision-")
    repository.add_project("audio", prefix="audio-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.signers["vision"] = repository.signers["audio"]
    repository.publish()
    with pytest.raises(Untrusted, match="not signed by whom this device trusts"):
        await device.authorize("vision-gate")


async def test_a_coordinator_without_the_keys_of_targets_signs_nothing(
    device: Device, repository: SimulatedRepository
) -> None:
    """It has the keys that are online, snapshot's and timestamp's, and makes all the rest itself."""
    repository.signers["targets"] = SimulatedRepository().signers["targets"]
    malware = target_of("digits", 2, flavor_of("malware"))
    repository.sign_target(malware)
    repository.publish()
    with pytest.raises(Untrusted, match="not signed by whom this device trusts"):
        await device.authorize("digits", 2, malware.flavor)


async def test_a_target_under_anothers_path_is_refused(device: Device, repository: SimulatedRepository) -> None:
    """The description is bound to its path."""
    repository.targets.targets["models/digits/2/onnx-fp32"] = repository.targets.targets["models/digits/1/onnx-fp32"]
    repository.publish()
    with pytest.raises(Untrusted, match="describes another one"):
        await device.authorize(version=2)


@pytest.mark.parametrize(
    "changed",
    [
        {"digest": digest_of(b"malware")},
        {"total_bytes": 1 << 40},
        {"golden_digest": None, "golden_bytes": 0},
        {"precision": "int8"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_desired_state_that_bends_what_was_signed_is_refused(
    device: Device, changed: dict[str, object]
) -> None:
    """Other bytes, a longer file, a golden set left out."""
    with pytest.raises(Untrusted, match="is not what was signed"):
        await device.authorize(flavor=replace(FLAVOR, **changed))  # type: ignore[arg-type]


# The device's own disk.


class FullDisk(TrustStore):
    """Just full enough: all but the floors could be written."""

    def persist_floors(self, floors: Floors) -> None:  # noqa: ARG002, D102
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_authorizes_nothing(device: Device, repository: SimulatedRepository) -> None:
    """Floors that are not durable are no floors."""
    await device.authorize()
    repository.publish()
    authority = Authority(FullDisk(device.folder), fetch_metadata=repository.fetch, clock=lambda: NOON)
    with pytest.raises(Interrupted, match=r"can't be written \(No space left on device\).*make room"):
        await authority.authorize("digits", 1, FLAVOR)
    assert device.store.floors().roles["timestamp"].version == 2
    await device.authorize()
    assert device.store.floors().roles["timestamp"].version == 3


async def test_damaged_floors_authorize_nothing(device: Device) -> None:
    """Without them old metadata would be believed."""
    await device.authorize()
    (device.folder / "floors.json").write_bytes(b"{")
    with pytest.raises(Untrusted, match=r"floors.json is damaged.*enroll --force"):
        await device.authorize()


async def test_attempts_at_once_take_turns(device: Device) -> None:
    """One look at a time works in the folder."""
    targets = await asyncio.gather(*(device.authorize() for _ in range(5)))
    assert len(set(map(repr, targets))) == 1
