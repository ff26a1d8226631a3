"""Tests of `edgeward_agent.artifacts.store` and `installation`."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeward.durable import PartialFile
from edgeward.protocol.digests import digest_of
from edgeward_agent.artifacts import (
    STEPS,
    BadDelivery,
    DiskFull,
    FetchInterrupted,
    InstallError,
    Pointer,
    SlotStore,
    StateInUse,
    probe_check,
    read_active,
    resolve_active,
)
from edgeward_agent.artifacts.active import read_pointer
from edgeward_agent.errors import Misuse
from tests.agent.models_on_disk import ArtifactSource, accept, install_scale, without_golden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Flavor, Format

CHECK = probe_check()


def files_in(folder: Path) -> set[str]:
    """All files by their path inside."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_first_install_passes_every_step_once(
    store: SlotStore, source: ArtifactSource, steps: list[str], tmp_path: Path, models: Path
) -> None:
    """From nothing to a model that serves, checked on this device's own runtime."""
    flavor = source.make_flavor(tmp_path)
    active = await store.install("scale", 1, flavor, fetch=source.fetch, check=CHECK)
    assert [step for step in STEPS if step in steps] == steps
    assert {"slot-cleared", "download-begun", "verified", "checked", "manifest-written", "activated"} <= {*steps}
    assert (active.model, active.version, active.flavor, active.digest) == ("scale", 1, "onnx-fp32", flavor.digest)
    assert digest_of(active.path.read_bytes()) == flavor.digest
    assert store.active("scale") == active == read_active(models / "scale")
    assert store.installed() == {"scale": active}
    assert files_in(models / "scale") == {
        "active.json",
        "slots/a/model.onnx",
        "slots/a/golden.npz",
        "slots/a/manifest.json",
    }


async def test_update_goes_into_the_other_slot(
    store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
) -> None:
    """What served stays whole beside it, and the pointer says so."""
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    before = {path: path.read_bytes() for path in (models / "scale" / "slots" / "a").iterdir()}
    await install_scale(store, source, tmp_path, version=2, factor=2.0)
    active = store.active("scale")
    assert active is not None
    assert (active.version, active.slot) == (2, "b")
    assert read_pointer(models / "scale") == Pointer(slot="b", former="a", generation=2)
    assert {path: path.read_bytes() for path in (models / "scale" / "slots" / "a").iterdir()} == before


async def test_what_serves_is_not_installed_again(
    store: SlotStore, source: ArtifactSource, steps: list[str], tmp_path: Path
) -> None:
    """Asked for the same version and flavor, the store answers at once."""
    flavor = await install_scale(store, source, tmp_path, version=1, factor=1.0)
    steps.clear()
    source.asked.clear()
    active = await store.install("scale", 1, flavor, fetch=source.fetch, check=CHECK)
    assert active == store.active("scale")
    assert (steps, source.asked) == ([], [])


async def test_going_back_needs_no_download(
    store: SlotStore, source: ArtifactSource, steps: list[str], tmp_path: Path
) -> None:
    """The former version is still in its slot: it is verified and checked again, and activated."""
    first = await install_scale(store, source, tmp_path, version=1, factor=1.0)
    await install_scale(store, source, tmp_path, version=2, factor=2.0)
    steps.clear()
    source.asked.clear()
    active = await store.install("scale", 1, first, fetch=source.fetch, check=CHECK)
    assert (active.version, active.slot, active.generation) == (1, "a", 3)
    assert source.asked == []
    assert "checked" in steps
    assert "download-begun" not in steps


async def test_a_damaged_former_version_is_fetched_again(
    store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
) -> None:
    """Going back trusts no file that it has not verified."""
    first = await install_scale(store, source, tmp_path, version=1, factor=1.0)
    await install_scale(store, source, tmp_path, version=2, factor=2.0)
    path = models / "scale" / "slots" / "a" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    active = await store.install("scale", 1, first, fetch=source.fetch, check=CHECK)
    assert digest_of(active.path.read_bytes()) == first.digest


async def test_flavor_without_a_golden_set_is_opened_and_run(
    store: SlotStore, source: ArtifactSource, tmp_path: Path
) -> None:
    """There is nothing to compare with, and a model that does not even run is refused."""
    flavor = without_golden(source.make_flavor(tmp_path))
    active = await store.install("scale", 1, flavor, fetch=source.fetch, check=CHECK)
    assert active.golden_path is None
    broken = source.add(b"\x08 no model")
    bad = replace(flavor, digest=broken, total_bytes=10)
    with pytest.raises(InstallError, match="onnx-fp32 does not run here"):
        await store.install("scale", 2, bad, fetch=source.fetch, check=CHECK)


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
async def test_a_model_that_computes_wrong_numbers_never_serves(
    store: SlotStore, source: ArtifactSource, tmp_path: Path, model_format: Format
) -> None:
    """The golden set, on this device's own runtime, decides; the old version goes on serving."""
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    before = store.active("scale")
    flavor = source.make_flavor(tmp_path, factor=2.0, golden_factor=3.0, format=model_format)
    with pytest.raises(
        InstallError, match=rf"{model_format}-fp32 computes wrong numbers on \S+ \d.*output 'y' is off by"
    ):
        await store.install("scale", 2, flavor, fetch=source.fetch, check=CHECK)
    assert store.active("scale") == before
    assert resolve_active(tmp_path / "state" / "models" / "scale").active == before


async def test_what_was_refused_gives_its_room_back(
    store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
) -> None:
    """Nothing of a refused model stays to be resumed."""
    flavor = source.make_flavor(tmp_path, factor=2.0, golden_factor=3.0)
    with pytest.raises(InstallError):
        await store.install("scale", 1, flavor, fetch=source.fetch, check=CHECK)
    assert files_in(models / "scale") == set()


class TestDownload:
    """Interruptions and damage on the way."""

    @pytest.mark.parametrize("fault", ["stop_after", "end_after"])
    async def test_goes_on_where_it_stopped(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, fault: str
    ) -> None:
        """What arrived before the link broke is not fetched again."""
        flavor = source.make_flavor(tmp_path)
        setattr(source, fault, 64)
        with pytest.raises(FetchInterrupted):
            await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert store.active("scale") is None
        await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert source.asked[:2] == [(flavor.digest, 0), (flavor.digest, 64)]

    async def test_another_version_starts_over(self, store: SlotStore, source: ArtifactSource, tmp_path: Path) -> None:
        """What arrived of one model is never continued with the bytes of another."""
        source.stop_after = 64
        with pytest.raises(FetchInterrupted):
            await install_scale(store, source, tmp_path, version=1, factor=1.0)
        flavor = await install_scale(store, source, tmp_path, version=2, factor=2.0)
        assert (flavor.digest, 0) in source.asked
        active = store.active("scale")
        assert active is not None
        assert active.digest == flavor.digest

    @pytest.mark.parametrize(
        ("change", "words"),
        [(lambda data: data[:-1] + b"?", "SHA-256"), (lambda data: data + b"more", "more than")],
        ids=["changed", "longer"],
    )
    async def test_damaged_bytes_never_serve_and_honest_ones_do(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, change: object, words: str
    ) -> None:
        """Whoever sent them may stop to, so they are no reason against the model."""
        assert callable(change)
        flavor = source.make_flavor(tmp_path)
        content = (tmp_path / "2.0.onnx").read_bytes()
        source.damage(flavor.digest, change(content))
        with pytest.raises(BadDelivery, match=f"model.onnx of scale version 1.*{words}"):
            await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert store.active("scale") is None
        source.damage(flavor.digest, content)
        active = await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert active.digest == flavor.digest

    async def test_an_endless_sender_is_cut_off(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
    ) -> None:
        """What comes after the length that was named is not even written, however long it goes on."""
        flavor = source.make_flavor(tmp_path)
        part = models / "scale" / "slots" / "a" / "model.onnx.part"
        largest = 0

        async def fetch_for_ever(_digest: Digest, _offset: int) -> AsyncIterator[bytes]:
            nonlocal largest
            while True:
                yield bytes(100)
                largest = max(largest, part.stat().st_size)

        with pytest.raises(BadDelivery, match=f"arrived damaged: more than the {flavor.total_bytes} bytes"):
            await store.install("scale", 1, flavor, fetch=fetch_for_ever, check=accept)
        assert 0 < largest <= flavor.total_bytes
        assert files_in(models / "scale") == {"slots/a/incoming.json"}

    async def test_a_sender_of_nothing_is_cut_off(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path
    ) -> None:
        """Empty pieces without end are an end."""
        flavor = source.make_flavor(tmp_path)

        async def fetch_nothing(_digest: Digest, _offset: int) -> AsyncIterator[bytes]:
            while True:
                yield b""

        with pytest.raises(FetchInterrupted, match=f"0 of {flavor.total_bytes} bytes came, then no more"):
            await store.install("scale", 1, flavor, fetch=fetch_nothing, check=accept)

    async def test_a_damaged_leftover_is_fetched_again(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
    ) -> None:
        """A power cut can spoil what had arrived: that costs another download, not the installation."""
        flavor = source.make_flavor(tmp_path)
        source.stop_after = 64
        with pytest.raises(FetchInterrupted):
            await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        part = models / "scale" / "slots" / "a" / "model.onnx.part"
        part.write_bytes(bytes(len(part.read_bytes())))
        active = await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert digest_of(active.path.read_bytes()) == flavor.digest
        assert [offset for digest, offset in source.asked if digest == flavor.digest] == [0, 64, 0]

    async def test_an_unusable_golden_set_is_refused(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path
    ) -> None:
        """The bytes are those that were named, and are no golden set."""
        flavor = source.make_flavor(tmp_path)
        junk = b"no npz"
        flavor = replace(flavor, golden_digest=source.add(junk), golden_bytes=len(junk))
        with pytest.raises(InstallError, match="golden set of scale version 1"):
            await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)

    async def test_cancelling_leaves_a_download_that_goes_on(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path
    ) -> None:
        """A deployment that is withdrawn in the middle stops, and harms nothing that comes after."""
        flavor = source.make_flavor(tmp_path)
        reached = asyncio.Event()

        async def wait_for_ever(_path: Path, _flavor: Flavor, _golden: GoldenSet | None) -> None:
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.install("scale", 1, flavor, fetch=source.fetch, check=wait_for_ever))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert store.active("scale") is None
        source.asked.clear()
        await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)
        assert source.asked == []

    async def test_one_installation_at_a_time(self, store: SlotStore, source: ArtifactSource, tmp_path: Path) -> None:
        """Two that were asked for at once follow one another, and the second serves."""
        first, second = source.make_flavor(tmp_path, factor=1.0), source.make_flavor(tmp_path, factor=2.0)
        installed = await asyncio.gather(
            store.install("scale", 1, first, fetch=source.fetch, check=accept),
            store.install("scale", 2, second, fetch=source.fetch, check=accept),
        )
        assert [active.slot for active in installed] == ["a", "b"]
        active = store.active("scale")
        assert active is not None
        assert active.version == 2


@pytest.mark.parametrize("name", ["../outside", ".hidden", "", "a/b", "a" * 65])
async def test_a_name_that_reaches_outside_is_refused(
    store: SlotStore, source: ArtifactSource, tmp_path: Path, name: str
) -> None:
    """A coordinator can't make a device write anywhere but into its models."""
    flavor = source.make_flavor(tmp_path / "source")
    before = files_in(tmp_path)
    with pytest.raises(InstallError, match="model name"):
        await store.install(name, 1, flavor, fetch=source.fetch, check=accept)
    assert files_in(tmp_path) == before


async def test_weights_alone_are_refused(store: SlotStore, source: ArtifactSource, tmp_path: Path) -> None:
    """An arrays flavor is for training, not for serving."""
    flavor = replace(source.make_flavor(tmp_path), name="arrays-fp32", format="arrays")
    with pytest.raises(InstallError, match="weights alone"):
        await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)


async def test_remove_frees_the_room(store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path) -> None:
    """Nothing serves and nothing stays; a model that isn't there is removed already."""
    await install_scale(store, source, tmp_path, version=1, factor=1.0)
    await install_scale(store, source, tmp_path, version=2, factor=2.0)
    store.remove("scale")
    store.remove("scale")
    assert (store.active("scale"), store.installed(), store.on_disk()) == (None, {}, [])
    assert files_in(models) == {".lock"}


class TestRecovery:
    """The boot after whatever happened."""

    @pytest.fixture
    async def updated(self, models: Path, source: ArtifactSource, tmp_path: Path) -> Path:
        """The folder of a model whose version 2 serves from slot b, after version 1 in slot a."""
        store = SlotStore(models)
        await install_scale(store, source, tmp_path, version=1, factor=1.0)
        await install_scale(store, source, tmp_path, version=2, factor=2.0)
        store.close()
        return models / "scale"

    def recover(self, models: Path) -> tuple[list[str], dict[str, int]]:
        """What was repaired, and what serves then."""
        store = SlotStore(models)
        try:
            words = store.recover()
            return words, {model: active.version for model, active in store.installed().items()}
        finally:
            store.close()

    def test_orderly_end_needs_no_repair(self, updated: Path) -> None:
        """Nothing is said, nothing is changed."""
        before = {path: path.stat().st_mtime_ns for path in updated.rglob("*")}
        assert self.recover(updated.parent) == ([], {"scale": 2})
        assert {path: path.stat().st_mtime_ns for path in updated.rglob("*")} == before

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "slots/b/model.onnx").write_bytes(b"\0" * 100),
            lambda folder: os.truncate(folder / "slots/b/model.onnx", 50),
            lambda folder: (folder / "slots/b/model.onnx").unlink(),
            lambda folder: (folder / "slots/b/manifest.json").write_bytes(b""),
            lambda folder: (folder / "slots/b/manifest.json").write_bytes(b'{"model": "scale"}'),
            lambda folder: (folder / "slots/b/manifest.json").unlink(),
            lambda folder: shutil.rmtree(folder / "slots/b"),
        ],
        ids=[
            "model-zeroed",
            "model-truncated",
            "model-gone",
            "manifest-empty",
            "manifest-partial",
            "manifest-gone",
            "slot-gone",
        ],
    )
    def test_damaged_active_slot_falls_back_to_the_former(self, updated: Path, damage: object) -> None:
        """The device comes up with version 1, says so, and a second boot finds all in order."""
        assert callable(damage)
        damage(updated)
        words, serving = self.recover(updated.parent)
        assert serving == {"scale": 1}
        assert any("slot b of scale is damaged" in word for word in words)
        assert any("scale serves version 1 (onnx-fp32) from slot a" in word for word in words)
        assert self.recover(updated.parent) == ([], {"scale": 1})

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"slot": "c", "former": null, "generation": 1}', b"\xff"])
    def test_damaged_pointer_takes_the_newest_sound_slot(self, updated: Path, content: bytes) -> None:
        """Which slot served is not known any more, and the newest installation is the best guess."""
        (updated / "active.json").write_bytes(content)
        words, serving = self.recover(updated.parent)
        assert serving == {"scale": 2}
        assert words
        assert self.recover(updated.parent) == ([], {"scale": 2})

    def test_lost_pointer_takes_the_newest_sound_slot(self, updated: Path) -> None:
        """A directory entry can be lost as well."""
        (updated / "active.json").unlink()
        assert self.recover(updated.parent)[1] == {"scale": 2}

    def test_nothing_sound_is_said(self, updated: Path) -> None:
        """Both slots are damaged: nothing serves, and the agent boots all the same."""
        for slot in ("a", "b"):
            os.truncate(updated / "slots" / slot / "model.onnx", 10)
        words, serving = self.recover(updated.parent)
        assert serving == {}
        assert words[-1] == "nothing of scale can serve until it is installed again"

    async def test_what_was_lost_can_be_installed_again(
        self, updated: Path, source: ArtifactSource, tmp_path: Path
    ) -> None:
        """After both slots were damaged the next installation starts over."""
        for slot in ("a", "b"):
            os.truncate(updated / "slots" / slot / "model.onnx", 10)
        store = SlotStore(updated.parent)
        store.recover()
        await install_scale(store, source, tmp_path, version=2, factor=2.0)
        store.close()
        assert self.recover(updated.parent) == ([], {"scale": 2})

    def test_rubbish_is_swept_up(self, updated: Path) -> None:
        """Temporary files of writers that were killed, and folders that were being removed."""
        (updated / ".active.json.abc").write_bytes(b"half")
        (updated / "slots" / "a" / ".incoming.json.abc").write_bytes(b"half")
        updated.with_name(".removed-old").mkdir()
        (updated.with_name(".removed-old") / "model.onnx").write_bytes(b"x")
        assert self.recover(updated.parent) == ([], {"scale": 2})
        assert not [path for path in updated.parent.rglob("*") if path.name.startswith((".active", ".inc", ".rem"))]

    def test_strange_things_in_the_folder_stop_nothing(self, updated: Path) -> None:
        """A file where a model's folder could be, a folder with a name that no model has."""
        (updated.parent / "note.txt").write_text("hello")
        (updated.parent / "lost+found").mkdir()
        (updated.parent / "empty").mkdir()
        assert self.recover(updated.parent) == ([], {"scale": 2})

    def test_any_process_resolves_without_writing(self, updated: Path) -> None:
        """A process that only predicts comes to the same model before any daemon has repaired the disk."""
        os.truncate(updated / "slots" / "b" / "model.onnx", 10)
        before = {path: path.stat().st_mtime_ns for path in updated.rglob("*")}
        resolved = resolve_active(updated)
        assert resolved.active is not None
        assert resolved.active.version == 1
        assert len(resolved.problems) == 1
        assert {path: path.stat().st_mtime_ns for path in updated.rglob("*")} == before


class TestLock:
    """One writer for a state directory."""

    def test_second_store_is_refused(self, store: SlotStore, models: Path) -> None:
        """The sentence names the process that holds it and the directory."""
        with pytest.raises(StateInUse, match=rf"another agent \(process {os.getpid()}\) runs on {models.parent}"):
            SlotStore(models)
        store.close()
        SlotStore(models).close()

    def test_killed_holder_leaves_no_lock(self, models: Path) -> None:
        """The kernel gives the lock back; there is no stale file to remove by hand."""
        script = (
            "import sys, time; from pathlib import Path; from edgeward_agent.artifacts import SlotStore\n"
            "store = SlotStore(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", script, str(models)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(StateInUse, match=f"process {holder.pid}"):
                SlotStore(models)
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        SlotStore(models).close()

    def test_place_that_can_not_be_written_is_said(self, tmp_path: Path) -> None:
        """A clear sentence in place of a traceback."""
        (tmp_path / "state").write_text("a file")
        with pytest.raises(Misuse, match=r"state directory .* can't be written"):
            SlotStore(tmp_path / "state" / "models")


class TestRoom:
    """A disk without room."""

    async def test_is_checked_before_anything_is_given_up(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path
    ) -> None:
        """A model larger than the disk is refused while the former version is still in its slot."""
        await install_scale(store, source, tmp_path, version=1, factor=1.0)
        await install_scale(store, source, tmp_path, version=2, factor=2.0)
        before = files_in(models)
        huge = replace(source.make_flavor(tmp_path, factor=3.0), total_bytes=1 << 60)
        with pytest.raises(
            DiskFull, match=r"scale version 3 \(onnx-fp32\) needs 11529215046\d+ bytes of disk and \d+ are free"
        ):
            await store.install("scale", 3, huge, fetch=source.fetch, check=accept)
        assert files_in(models) == before
        assert source.asked[-1][0] != huge.digest

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    async def test_full_disk_in_the_middle_gives_the_room_back(
        self, store: SlotStore, source: ArtifactSource, tmp_path: Path, models: Path, code: int
    ) -> None:
        """Documented fake of the disk: appending raises as a full file system, a quota or a limit does."""
        await install_scale(store, source, tmp_path, version=1, factor=1.0)
        append = PartialFile.append

        def append_until_full(self: PartialFile, offset: int, data: bytes) -> None:
            if offset >= 64:
                raise OSError(code, os.strerror(code))
            append(self, offset, data)

        flavor = source.make_flavor(tmp_path, factor=2.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PartialFile, "append", append_until_full)
            with pytest.raises(DiskFull, match=r"the disk is full: scale version 2 .* make room"):
                await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)
        active = store.active("scale")
        assert active is not None
        assert active.version == 1
        assert files_in(models / "scale" / "slots" / "b") == set()
        await store.install("scale", 2, flavor, fetch=source.fetch, check=accept)

    async def test_failing_disk_is_time_too(self, store: SlotStore, source: ArtifactSource, tmp_path: Path) -> None:
        """An input/output error is said in words, and what has arrived is kept."""
        flavor = source.make_flavor(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PartialFile, "append", _raise_io_error)
            with pytest.raises(FetchInterrupted, match="could not be written: Input/output error"):
                await store.install("scale", 1, flavor, fetch=source.fetch, check=accept)


def _raise_io_error(_self: PartialFile, _offset: int, _data: bytes) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


async def test_readers_keep_the_file_that_they_have_open(
    store: SlotStore, source: ArtifactSource, tmp_path: Path
) -> None:
    """Two updates later the slot holds another model, and who had opened the first still reads the first."""
    first = await install_scale(store, source, tmp_path, version=1, factor=1.0)
    active = store.active("scale")
    assert active is not None
    with active.path.open("rb") as reader:
        await install_scale(store, source, tmp_path, version=2, factor=2.0)
        third = await install_scale(store, source, tmp_path, version=3, factor=3.0)
        assert digest_of(active.path.read_bytes()) == third.digest
        assert digest_of(reader.read()) == first.digest
