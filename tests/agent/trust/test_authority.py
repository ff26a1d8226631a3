"""An honest coordinator: what is signed is authorized, and what was learnt is durable."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.errors import Interrupted
from edgeward_agent.trust import Authority, Untrusted
from tests.agent.trust.device import FLAVOR, NOON, Device, flavor_of, target_of
from tests.agent.trust.repository import TOP, SimulatedRepository
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_was_signed_is_authorized(device: Device, repository: SimulatedRepository) -> None:
    """With all that the metadata says of it."""
    target = replace(target_of(version=2), runtimes={"onnxruntime": "1.23"}, memory_bytes=1 << 20)
    repository.sign_target(target)
    repository.publish()
    assert await device.authorize(version=2) == target


@pytest.mark.parametrize(("model", "version"), [("digits", 9), ("other", 1)])
async def test_what_was_not_signed_is_not(device: Device, model: str, version: int) -> None:
    """It says who can help."""
    with pytest.raises(Untrusted, match=rf"models/{model}/{version}/onnx-fp32 is not in the signed metadata.*approve"):
        await device.authorize(model, version)


async def test_another_flavor_than_was_signed_is_not(device: Device) -> None:
    """The desired state is nobody's authority."""
    with pytest.raises(Untrusted, match="is not what was signed: its SHA-256"):
        await device.authorize(flavor=flavor_of("modex"))


async def test_a_version_that_was_withdrawn_is_not_authorized_any_more(
    device: Device, repository: SimulatedRepository
) -> None:
    """From the next look on."""
    await device.authorize()
    repository.withdraw("models/digits/1/onnx-fp32")
    repository.publish()
    with pytest.raises(Untrusted, match="is not in the signed metadata"):
        await device.authorize()


async def test_a_projects_key_signs_its_models(device: Device, repository: SimulatedRepository) -> None:
    """Through the delegation."""
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    assert (await device.authorize("vision-gate")).model == "vision-gate"
    assert device.store.floors().roles["vision"].version == 1


async def test_a_project_that_was_removed_stops_nobody_else(device: Device, repository: SimulatedRepository) -> None:
    """Even where its role leaves the snapshot, which python-tuf alone would refuse for ever."""
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    await device.authorize("vision-gate")
    repository.targets.delegations = None
    repository.projects.clear()
    del repository.snapshot.meta["vision.json"]
    repository.publish()
    await device.authorize("digits")
    with pytest.raises(Untrusted, match="is not in the signed metadata"):
        await device.authorize("vision-gate")


async def test_the_floors_are_on_disk_before_the_answer(device: Device, repository: SimulatedRepository) -> None:
    """Of every role, and when the timestamp was signed."""
    await device.authorize()
    floors = device.store.floors()
    assert {name: floor.version for name, floor in floors.roles.items()} == {
        "root": 1,
        "targets": 2,
        "snapshot": 2,
        "timestamp": 2,
    }
    assert floors.signed_at == NOON
    assert json.loads((device.folder / "floors.json").read_bytes())


async def test_nothing_is_written_where_nothing_is_new(device: Device) -> None:
    """A look a minute wears no flash."""
    await device.authorize()
    before = {path: path.stat().st_mtime_ns for path in device.folder.glob("*.json")}
    await device.authorize()
    assert {path: path.stat().st_mtime_ns for path in device.folder.glob("*.json")} == before


async def test_one_look_answers_for_several_models(repository: SimulatedRepository, tmp_path: Path) -> None:
    """Ten models of a desired state cost one refresh."""
    device = Device(tmp_path / "trust", repository, fresh_for=timedelta(hours=1))
    for number in range(10):
        repository.sign_target(target_of(f"m{number}"))
    repository.publish()
    for number in range(10):
        await device.authorize(f"m{number}")
    assert repository.asked.count("timestamp.json") == 1


async def test_what_a_fresh_look_does_not_cover_is_looked_up_anew(
    repository: SimulatedRepository, tmp_path: Path
) -> None:
    """A version that was approved this second, and one whose flavor changed."""
    device = Device(tmp_path / "trust", repository, fresh_for=timedelta(hours=1))
    await device.authorize()
    repository.sign_target(target_of(version=2))
    repository.publish()
    await device.authorize(version=2)
    repository.sign_target(target_of(version=3, flavor=flavor_of("third")))
    repository.publish()
    await device.authorize(version=3, flavor=flavor_of("third"))
    assert repository.asked.count("timestamp.json") == 3


async def test_a_look_is_fresh_for_a_while_only(repository: SimulatedRepository, tmp_path: Path) -> None:
    """Then even what it covers is looked up anew, and its memory is given back."""
    device = Device(tmp_path / "trust", repository, fresh_for=timedelta(milliseconds=1))
    await device.authorize()
    await wait_until_async(lambda: device.authority._fresh is None)
    await device.authorize()
    assert repository.asked.count("timestamp.json") == 2


@pytest.mark.parametrize("role", [*TOP, "vision"])
async def test_a_rotated_key_is_followed(device: Device, repository: SimulatedRepository, role: str) -> None:
    """Of every role, over and over."""
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    for _ in range(3):
        await device.authorize("vision-gate")
        repository.rotate(role)
    assert (await device.authorize("vision-gate")).model == "vision-gate"


async def test_a_device_that_slept_through_many_rotations_of_every_role_follows(
    device: Device, repository: SimulatedRepository
) -> None:
    """Root by root: sixteen of root's own keys, each with another role's."""
    repository.add_project("vision", prefix="vision-")
    repository.sign_target(target_of("vision-gate"), role="vision")
    repository.publish()
    await device.authorize("vision-gate")
    for number in range(16):
        repository.rotate("root")
        repository.rotate(("targets", "snapshot", "timestamp", "vision")[number % 4])
    device.restart()
    await device.authorize("vision-gate")
    assert device.store.floors().roles["root"].version == len(repository.roots)
    assert device.store.root() == repository.roots[-1]


async def test_the_newest_root_is_where_trust_begins_next(device: Device, repository: SimulatedRepository) -> None:
    """Also where python-tuf's files are lost: a key of root that was rotated out signs nothing any more."""
    await device.authorize()
    former = list(repository.signers["root"])
    repository.rotate("root")
    await device.authorize()
    device.lose_cache()
    fork = repository.root
    fork.version = 1
    repository.publish_root(signers=former)
    device.restart()
    await device.authorize()
    assert device.store.floors().roles["root"].version == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
async def test_a_stolen_key_ends_nothing_for_ever(device: Device, repository: SimulatedRepository, role: str) -> None:
    """It has signed an enormous version; once it is rotated out, updates go on from the honest one."""
    stolen = getattr(repository, role)
    honest = stolen.version
    stolen.version = 2**40
    repository.publish()
    await device.authorize()
    stolen.version = honest
    repository.rotate(role)
    await device.authorize()


async def test_a_stolen_key_of_the_timestamp_does_not_set_the_clock_for_ever(
    device: Device, repository: SimulatedRepository
) -> None:
    """It has signed an instant days ahead; once it is rotated out, what is signed now is not too old."""
    honest = repository.now
    repository.now += timedelta(days=5)
    repository.publish_timestamp()
    await device.authorize()
    assert device.store.floors().signed_at == honest + timedelta(days=5)
    repository.now = honest
    repository.publish_timestamp()
    with pytest.raises(Untrusted, match=r"timestamp.json is expired by this device's clock \(2027-01-06"):
        await device.authorize()
    repository.rotate("timestamp")
    device.restart()
    await device.authorize()
    assert device.store.floors().signed_at == honest


@pytest.mark.parametrize("role", ["root", "targets", "snapshot"])
async def test_another_key_that_was_rotated_leaves_the_bound_of_now(
    device: Device, repository: SimulatedRepository, role: str
) -> None:
    """Only the timestamp's keys have signed it."""
    honest = repository.now
    repository.now += timedelta(days=5)
    repository.publish_timestamp()
    await device.authorize()
    repository.now = honest
    repository.rotate(role)
    with pytest.raises(Untrusted, match=r"expired by this device's clock \(2027-01-06"):
        await device.authorize()
    assert device.store.floors().signed_at == honest + timedelta(days=5)


async def test_time_is_the_devices_alone(tmp_path: Path) -> None:
    """Metadata of long ago is good on a device whose clock is there, whatever the machine's says."""
    then = datetime(2020, 1, 1, tzinfo=UTC)
    repository = SimulatedRepository(now=then)
    repository.sign_target(target_of())
    repository.publish()
    device = Device(tmp_path / "trust", repository)
    authority = Authority(device.store, fetch_metadata=repository.fetch, clock=lambda: then, built_at=then)
    await authority.authorize("digits", 1, FLAVOR)


async def test_a_connection_that_breaks_is_an_interruption(device: Device, repository: SimulatedRepository) -> None:
    """Not a reason for distrust; the next attempt succeeds."""
    honest = repository.fetch

    async def broken(name: str, max_bytes: int) -> bytes | None:
        if name == "timestamp.json":
            raise Interrupted("there is no connection")
        return await honest(name, max_bytes)

    repository.fetch = broken  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="there is no connection") as caught:
        await device.authorize()
    assert not isinstance(caught.value, Untrusted)
    repository.fetch = honest  # type: ignore[method-assign]
    await device.authorize()


async def test_a_cancelled_look_leaves_nothing_at_work(device: Device, repository: SimulatedRepository) -> None:
    """And the next one has the folder for itself."""
    asked, held = asyncio.Event(), asyncio.Event()

    async def hold(name: str, max_bytes: int) -> bytes | None:
        asked.set()
        await held.wait()
        return repository.read(name)

    authority = Authority(device.store, fetch_metadata=hold, clock=lambda: NOON)
    task = asyncio.create_task(authority.authorize("digits", 1, FLAVOR))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [other for other in asyncio.all_tasks() if other is not asyncio.current_task()] == []
    held.set()
    await authority.authorize("digits", 1, FLAVOR)
