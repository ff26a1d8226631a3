"""The models of a device in two slots each: installed beside what serves, activated by one atomic replacement."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder
from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_model_name
from edgeward_agent.artifacts.active import (
    POINTER,
    ActiveModel,
    Candidate,
    models_on_disk,
    read_active,
    read_candidate,
    slot_folder,
    verify_slot,
)
from edgeward_agent.artifacts.errors import FetchInterrupted, InstallError, disk_errors
from edgeward_agent.artifacts.in_thread import in_thread
from edgeward_agent.artifacts.installation import Installation
from edgeward_agent.artifacts.lock import FolderLock
from edgeward_agent.artifacts.manifest import SLOTS, Manifest, SlotName
from edgeward_agent.artifacts.model_folder import ModelFolder
from edgeward_agent.artifacts.pointer import CandidatePointer, Probation
from edgeward_agent.artifacts.recovery import count_start, recover_model
from edgeward_agent.artifacts.room import REMOVED, Room, collect_garbage
from edgeward_agent.artifacts.slot_files import make_folder, read_finished
from edgeward_agent.artifacts.wish import Wish, place_for, verify_installable, verify_not_refused
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Flavor
    from edgeward.protocol.state import CandidateMode, ProbationRules
    from edgeward.protocol.targets import PatchOffer
    from edgeward_agent.artifacts.check import Check
    from edgeward_agent.artifacts.reception import Fetch
    from edgeward_agent.artifacts.refusals import Refusal
    from edgeward_agent.artifacts.steps import Checkpoint

_LOCK = ".lock"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SlotStore:
    """The folder `models/`; the only writer there, which a lock makes sure of. Close it to let another in.

    `install` and `stage` follow one another; the other methods block on the disk
    for a moment (`roll_back` hashes a model), and may be called from any thread.

    Args:
        folder: `models/` in the state directory; made where it is missing.
        checkpoint: Called with each of `STEPS` once it is durable.
        max_bytes: The limit on all files in the folder; None: the disk alone.
        clock: The wall clock.

    Raises:
        StateInUse: Another process has it open.
        Misuse: The folder can't be made or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoint: Checkpoint = lambda _step: None,
        max_bytes: int | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._clock = clock
        self._installing = asyncio.Lock()
        self._changing = RLock()
        self._filling: Path | None = None
        self._wanted: frozenset[tuple[str, int]] = frozenset()
        self._counted: dict[str, Probation] = {}
        self._room = Room(folder, max_bytes=max_bytes, collect=self._collect)
        try:
            make_folder(folder)
            self._lock = FolderLock(folder / _LOCK)
        except OSError as error:
            raise Misuse(
                f"the state directory {folder.parent} can't be written: {error.strerror}",
                hint="run as the agent's user, or give another directory",
            ) from error

    def recover(self) -> list[str]:
        """At boot, before anything loads a model: verify what serves, fall back where it is damaged, sweep up.

        A start counts for each model on probation; at the third without a `commit` or an orderly end (`close`)
        the version is rolled back.

        Returns:
            What was repaired or rolled back, in words; nothing after an orderly end.
        """
        for path in self._folder.glob(f"{REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)
        words: list[str] = []
        for model in models_on_disk(self._folder):
            try:
                words += recover_model(self._model(model))
                words += self._count_start(model)
            except OSError as error:
                # Whoever loads the model resolves it again, so a disk that takes no write stops nothing here.
                words.append(f"{model} could not be repaired: {error}")
        return words

    def active(self, model: str) -> ActiveModel | None:
        """What serves of a model; None where nothing does."""
        return read_active(self._folder / model)

    def candidate(self, model: str) -> Candidate | None:
        """What runs beside it; None where nothing does."""
        return read_candidate(self._folder / model)

    def held(self, model: str) -> frozenset[Digest]:
        """The artifacts that its slots hold, whole and checked: none of them needs a download to serve."""
        slots = [slot_folder(self._folder / model, slot) for slot in SLOTS]
        return frozenset(found.flavor.digest for slot in slots if (found := read_finished(slot)) is not None)

    def former(self, model: str) -> Manifest | None:
        """What served before, is whole (its digest is computed) and can serve again; None where nothing does."""
        folder = self._model(model)
        pointer = folder.pointer()
        if pointer is None or pointer.former is None:
            return None
        try:
            return verify_slot(folder.path, pointer.former)
        except (OSError, WireError):
            return None

    def installed(self) -> dict[str, ActiveModel]:
        """What serves of each model."""
        found = {model: self.active(model) for model in self.on_disk()}
        return {model: active for model, active in found.items() if active is not None}

    def on_disk(self) -> list[str]:
        """The models that take place here, those included of which nothing serves yet."""
        return models_on_disk(self._folder)

    async def install(
        self,
        model: str,
        version: int,
        flavor: Flavor,
        *,
        fetch: Fetch,
        check: Check,
        release: int = 0,
        probation: ProbationRules | None = None,
        patches: Sequence[PatchOffer] = (),
    ) -> ActiveModel:
        """Bring a version to serve; at once where it serves already, without a download where a slot holds it.

        What served goes on serving until the new model has passed its check, and stays whole in its slot after.
        Where that is itself on probation, the version before it serves again first: one that has proven itself is
        never given up for one that has not. If that is the version asked for, it is verified and serves, and is
        not on probation. A candidate in the other slot ends, or becomes what serves.

        Args:
            model: Its name.
            version: Its number.
            flavor: The artifact to install; its digest and lengths are believed, so they must come from signed
                metadata.
            fetch: `(digest, offset)` to the bytes from there on.
            check: Whether the model may serve here.
            release: Of the desired model that asks for it.
            probation: How the version is to prove itself; None: it counts as proven.
            patches: What it can be made from; the smallest that fits is taken, and any that fails costs a download.

        Raises:
            InstallError: This flavor can't serve here, or was refused under this release; nothing has changed for
                what serves.
            FetchInterrupted: Try again; `DiskFull` and `QuotaExceeded` among them, once somebody has made room.
        """
        wish = Wish(model=model, version=version, flavor=flavor, release=release, patches=patches)
        verify_installable(wish)
        async with self._installing:
            folder = self._model(model)
            active = await in_thread(self._before_install, folder, wish)
            if active is not None and wish.is_in(active):
                return active
            slot, serial = place_for(folder.path, wish, active)
            terms = None if probation is None else self._probation(wish, probation)
            await self._fill(
                folder,
                wish,
                slot=slot,
                serial=serial,
                complete=lambda: folder.activate(slot, serial=serial, probation=terms),
                fetch=fetch,
                check=check,
            )
            serving = self.active(model)
            if serving is None:
                raise FetchInterrupted(f"{wish} was taken away while it was activated")
            return serving

    async def stage(
        self,
        model: str,
        version: int,
        flavor: Flavor,
        *,
        fetch: Fetch,
        check: Check,
        mode: CandidateMode,
        share: float,
        release: int = 0,
        patches: Sequence[PatchOffer] = (),
    ) -> None:
        """Bring a version to run beside what serves, in the place of the former version.

        A candidate that is there already has its mode and share changed, and nothing else.

        Args:
            model: Its name.
            version: Its number.
            flavor: The artifact; as in `install`.
            fetch: As in `install`.
            check: As in `install`: a candidate has passed its golden set too.
            mode: What it does.
            share: Of the requests that it serves, in [0, 1].
            release: As in `install`.
            patches: As in `install`.

        Raises:
            InstallError: As in `install`; also where this very version serves.
            FetchInterrupted: As in `install`; also while nothing serves, or what serves is on probation.
        """
        wish = Wish(model=model, version=version, flavor=flavor, release=release, patches=patches)
        verify_installable(wish)
        async with self._installing:
            folder = self._model(model)
            active = await in_thread(self._before_stage, folder, wish)
            slot, serial = place_for(folder.path, wish, active)
            candidate = CandidatePointer(slot=slot, mode=mode, share=share)
            present = self.candidate(model)
            if present is not None and wish.is_in(present.active):
                with disk_errors(str(wish)):
                    await in_thread(folder.stage, candidate)
                return
            await self._fill(
                folder,
                wish,
                slot=slot,
                serial=serial,
                complete=lambda: folder.stage(candidate),
                fetch=fetch,
                check=check,
            )

    def drop_candidate(self, model: str) -> None:
        """End what runs beside; nothing where there is none. Its files stay until their room is needed.

        Raises:
            FetchInterrupted: The disk takes no write.
        """
        with disk_errors(model):
            self._model(model).drop_candidate()

    def settle_start(self, model: str) -> None:
        """The agent has lived with what serves for a while: the start that `recover` counted is taken back.

        Nothing where none was counted, or it was taken back already.

        Raises:
            FetchInterrupted: The disk takes no write; the start still counts.
        """
        counted = self._counted.get(model)
        if counted is not None:
            with disk_errors(model):
                self._take_start_back(model, counted)
            self._counted.pop(model, None)

    def commit(self, model: str) -> None:
        """What serves has proven itself: its probation ends. Nothing where there is none.

        Raises:
            FetchInterrupted: The disk takes no write; the probation goes on.
        """
        with disk_errors(model):
            self._model(model).commit()

    def roll_back(self, model: str, reason: str) -> ActiveModel | None:
        """Send the version on probation back, and refuse it under its release from now on.

        Returns:
            What serves now: the former version, verified by its digest; None where there is none that is sound.
            Without a probation nothing changes.

        Raises:
            FetchInterrupted: The disk fails.
        """
        with disk_errors(model):
            return self._model(model).roll_back(reason)

    def refuse(self, model: str, version: int, digest: Digest, release: int, reason: str) -> None:
        """Remember, durably, that an artifact must not serve here under a release. Changes nothing that serves.

        Raises:
            FetchInterrupted: The disk takes no write.
        """
        with disk_errors(model):
            self._model(model).refuse(version, digest, release, reason)

    def refusals(self, model: str) -> tuple[Refusal, ...]:
        """What was refused or rolled back, the newest last; the newest 16 are kept."""
        return self._model(model).refusals()

    def remove(self, model: str) -> None:
        """Stop serving a model and free its room; nothing where there is none."""
        folder = self._folder / parse_model_name(model)
        if not folder.is_dir():
            return
        # Out of sight in one step; a crash after it leaves rubbish, which `recover` sweeps up.
        removed = self._folder / f"{REMOVED}{model}"
        shutil.rmtree(removed, ignore_errors=True)
        folder.replace(removed)
        fsync_folder(self._folder)
        shutil.rmtree(removed, ignore_errors=True)

    def collect(self, wanted: Collection[tuple[str, int]]) -> int:
        """Remove what nobody needs; never a slot that serves, could serve again or holds a candidate.

        Args:
            wanted: Each (model, version) that should run here, candidates included: what has arrived of them stays,
                also when an installation needs room, until this is called again.

        Returns:
            The bytes that this gave back.
        """
        self._wanted = frozenset(wanted)
        return self._collect()

    def close(self) -> None:
        """An orderly end: take the start that `recover` counted back, and give the lock back. Twice is once."""
        for model, counted in self._counted.items():
            with suppress(OSError):
                self._take_start_back(model, counted)
        self._counted = {}
        self._lock.close()

    def _model(self, model: str) -> ModelFolder:
        path = self._folder / parse_model_name(model)
        return ModelFolder(path, lock=self._changing, checkpoint=self._checkpoint, clock=self._clock)

    def _probation(self, wish: Wish, rules: ProbationRules) -> Probation:
        return Probation(
            version=wish.version, digest=wish.flavor.digest, since=self._clock(), release=wish.release, rules=rules
        )

    def _before_install(self, folder: ModelFolder, wish: Wish) -> ActiveModel | None:
        """Bring the model's folder into a state to install from; what serves then."""
        with disk_errors(str(wish)):
            active = self._read_or_repair(folder)
            if wish.is_in(active):
                return active
            verify_not_refused(folder.refusals(), wish)
            if active is not None and active.probation is not None:
                folder.step_back()
            return read_active(folder.path)

    def _before_stage(self, folder: ModelFolder, wish: Wish) -> ActiveModel:
        with disk_errors(str(wish)):
            active = self._read_or_repair(folder)
        if active is None:
            raise FetchInterrupted(f"{wish} waits: there is nothing yet that it could run beside")
        if wish.is_in(active):
            raise InstallError(f"{wish} serves, so it is no candidate")
        verify_not_refused(folder.refusals(), wish)
        if active.probation is not None:
            raise FetchInterrupted(
                f"{wish} waits: version {active.version}, beside which it should run, is on probation"
            )
        return active

    def _read_or_repair(self, folder: ModelFolder) -> ActiveModel | None:
        active = read_active(folder.path)
        if active is None and (folder.path / POINTER).exists():
            # Which slot may be filled is not known otherwise, and the wrong one would be the one that can serve.
            recover_model(folder)
            active = read_active(folder.path)
        return active

    async def _fill(
        self,
        folder: ModelFolder,
        wish: Wish,
        *,
        slot: SlotName,
        serial: int,
        complete: Callable[[], object],
        fetch: Fetch,
        check: Check,
    ) -> None:
        installation = Installation(
            folder,
            slot=slot,
            manifest=Manifest(model=wish.model, version=wish.version, flavor=wish.flavor, serial=serial),
            patches=wish.patches,
            room=self._room,
            complete=complete,
            checkpoint=self._checkpoint,
        )
        self._filling = slot_folder(folder.path, slot)
        try:
            await installation.run(fetch=fetch, check=check)
        finally:
            self._filling = None

    def _collect(self) -> int:
        with self._changing:
            return collect_garbage(self._folder, wanted=self._wanted, spared=self._filling)

    def _count_start(self, model: str) -> list[str]:
        words, probation = count_start(self._model(model))
        if probation is not None:
            self._counted[model] = probation
        return words

    def _take_start_back(self, model: str, counted: Probation) -> None:
        with self._changing:
            folder = self._model(model)
            pointer = folder.pointer()
            if pointer is not None and pointer.probation == counted:
                folder.count_start(-1)
